"""Jobs on a real Slurm cluster: the same bits as on one machine, whatever Slurm does to them, and nothing left."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.slurm.requeue import safe_rounds
from tests.slurm.conftest import Quiet, Submit
from tests.slurm.lab import ROOT, Lab, assert_nothing_left, hashes, log_of, rounds_done, until, wait_for_rounds

pytestmark = pytest.mark.slurm

DIGITS = ROOT / "configs" / "digits.yaml"
# What a site may ask for; the model notes where its data lies, and what it sees.
SITE = """\
base: [{digits}]
model: {{name: "site_model:Model"}}
local: {{steps: 1, stack: 3}}  # more blocks than nodes
rounds: 100
evaluate: {{every: 0}}
tracking: []
cluster:
  name: slurm
  nodes: 3
  cpus_per_task: 1
  mem: 1500M
  interface: eth0
  python: {container}
  prologue: ["export SITE_MARK='set by the prologue'", "export SLURM_TMPDIR=/tmp/disk"]
"""
SITE_MODEL = """\
import json, os, pathlib, time
from torch import nn

HERE = pathlib.Path(__file__).parent

class Model(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        env = os.environ
        if job := env.get("SLURM_JOB_ID"):
            lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
            seen = {
                "node": env["SLURMD_NODENAME"], "mark": env.get("SITE_MARK"), "ray": env["RAY_ADDRESS"],
                "interface": env.get("NCCL_SOCKET_IFNAME"), "inside": os.path.exists("/mnt/inside"),
                "maps": [line.split()[-1] for line in lines if line.endswith("x.npy")],
            }
            (HERE / f"seen-{job}-{seen['node']}").write_text(json.dumps(seen))
            if len(list(HERE.glob(f"seen-{job}-*"))) < 3:
                time.sleep(0.5)  # leaves the other nodes time to join
        return super().forward(x)
"""
# Stands for `apptainer exec image.sif python`: a root of files that differs from the node's.
CONTAINER = """\
#!/bin/sh
exec unshare --mount sh -c 'mount -t tmpfs none /mnt && touch /mnt/inside && exec {python} "$@"' python "$@"
"""


@pytest.fixture(scope="module", autouse=True)
def limited(lab: Lab) -> Iterator[tuple[int, Path]]:
    """A job that is warned after two minutes, and its run folder: it comes near its limit while the other tests run."""
    run_dir = lab.folder / "limited"
    options = ["rounds=100000", "cluster.grace=60", f"run.dir={run_dir}", "--nodes=1", "--time=00:03:00"]
    (lab.folder / "slow.yaml").write_text('base: [paced.yaml]\nmodel: {name: "paced_model:AlwaysSlow"}\n')
    said = lab.fedray("slurm", lab.folder / "slow.yaml", *options, "--sbatch=nodelist=node3").stdout
    job = int(said.split()[2])
    yield job, run_dir
    lab.run("scancel", job, check=False)


def members(lab: Lab, address: str, token: Path) -> list[str]:
    """The nodes of the Ray cluster at an address, as far as a token shows them."""
    ask = f"from fedray.cluster.start.members import alive; print(*alive({address!r}))"
    script = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token} timeout 15 {sys.executable} -c {shlex.quote(ask)}"
    return lab.on("node1", script, check=False).split()


def test_a_site_of_its_own_kind_gives_the_bits_of_one_process(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    # Python comes out of a container, the prologue sets the run up, and each node has a scratch disk.
    (lab.folder / "site_model.py").write_text(SITE_MODEL)
    container = lab.folder / "container"
    container.write_text(CONTAINER.format(python=sys.executable))
    container.chmod(0o755)
    config = lab.folder / "site.yaml"
    config.write_text(SITE.format(digits=DIGITS, container=container))
    run_dir, disk = lab.folder / "site", "/tmp/disk"
    for name in lab.nodes:
        lab.on(name, f"mkdir {disk}")
    job = submit(config, f"run.dir={run_dir}")
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert hashes(run_dir) == quiet(config, 100)
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "finished"
    seen = [json.loads(path.read_text()) for path in lab.folder.glob(f"seen-{job}-*")]
    assert {one["node"] for one in seen} == set(lab.nodes)
    for one in seen:
        assert one["inside"], "not in the container"
        assert (one["mark"], one["interface"]) == ("set by the prologue", "eth0")
        assert one["ray"].startswith(f"{lab.address('node1')}:")
        assert one["maps"], "the data is not mapped into memory"
        assert all(path.startswith(f"{disk}/fedray-0-{job}.0/") for path in one["maps"])
    assert_nothing_left(lab, job, run_dir)
    assert [lab.on(name, f"ls {disk}; rmdir {disk}") for name in lab.nodes] == [""] * lab.count


def test_a_cancelled_job_saves_leaves_nothing_and_can_go_on(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / "cancelled"
    job = submit(config, f"run.dir={run_dir}", "checkpoint.every=0", "--nodes", 2)
    wait_for_rounds(run_dir, 3)
    seen = rounds_done(run_dir)
    lab.run("scancel", job)
    assert lab.ended(job).state == "CANCELLED"
    assert lab.job(job).restarts == 0, "who cancels does not want it back"
    assert safe_rounds(run_dir) >= seen, log_of(run_dir)
    assert_nothing_left(lab, job, run_dir)
    again = lab.fedray("resume", run_dir, "cluster.name=inline", "rounds=30")
    assert again.returncode == 0, again.stderr
    assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] >= seen
    assert hashes(run_dir) == quiet(config, 30)


def test_a_run_near_its_time_limit_saves_and_goes_on(lab: Lab, limited: tuple[int, Path], quiet: Quiet) -> None:
    job, run_dir = limited
    until(lambda: lab.job(job).restarts >= 1, 120, lambda: log_of(run_dir))
    # Else the next warning may come together with the signal below.
    lab.run("scontrol", "update", f"jobid={job}", "timelimit=30")
    wait_for_rounds(run_dir, rounds_done(run_dir) + 2)
    lab.run("scancel", "--batch", "--signal=INT", job)
    ended = lab.ended(job)
    assert (ended.state, ended.exit_code) == ("FAILED", "75:0"), "SIGINT is the user's own wish to stop: no requeue"
    assert "SIGUSR1: stopping with a checkpoint" in log_of(run_dir)
    assert hashes(run_dir) == quiet(lab.folder / "paced.yaml", rounds_done(run_dir))
    assert_nothing_left(lab, job, run_dir)


def test_jobs_on_the_same_nodes_do_not_see_each_other_and_outlive_preemption(
    lab: Lab, submit: Submit, quiet: Quiet, brake: Path
) -> None:
    # Without a time of grace Slurm signals every process of a job, and requeues it.  With one it signals the nodes'
    # programs alone, and waits.  The second job is sent by hand, with the script that stands in slurm/.
    config = lab.folder / "paced.yaml"
    script = [ROOT / "slurm" / "fedray.sbatch", config, "checkpoint.every=0"]
    run_dir = lab.folder / "spot"
    chosen = ["--nodes=2", "--partition=spot", "--sbatch=nodelist=node[1-2]"]
    spot = submit(config, f"run.dir={run_dir}", "checkpoint.every=0", *chosen)
    chosen = ["--nodes=1", "--partition=graced", "--nodelist=node1", "--mem=1500M"]
    graced = int(lab.run("sbatch", "--parsable", *chosen, *script))
    jobs = {spot: run_dir, graced: lab.folder / "runs" / "paced" / f"slurm-{graced}"}
    for job, folder in jobs.items():
        wait_for_rounds(folder, 3)
        assert lab.on("node1", f"stat -c %a /tmp/fedray-0-{job}.0").strip() == "700", "Ray opens its own folder to all"
    commands = ["\n".join(lab.processes("node1", job)) for job in jobs]
    addresses = [re.findall(r"fedray.slurm.node .*--address (\S+)", lines)[0] for lines in commands]
    tokens = [next(folder.glob(".slurm-*/token")) for folder in jobs.values()]
    seen = [members(lab, address, token) for address in addresses for token in tokens]
    assert seen == [["node1", "node2"], [], [], ["node1"]], "each token opens its own job's cluster"
    done = {job: rounds_done(folder) for job, folder in jobs.items()}
    chosen = ["--nodes=2", "--partition=urgent", "--nodelist=node[1-2]", "--exclusive"]
    lab.run("sbatch", *chosen, "--output=/dev/null", "--wrap", "true")
    until(lambda: all(lab.job(job).restarts == 1 for job in jobs), 60, lambda: log_of(jobs[spot]))
    brake.unlink()
    for job, run_dir in jobs.items():
        assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
        assert lab.job(job).restarts == 1
        assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] >= done[job]
        assert hashes(run_dir) == quiet(config, 100)
        assert_nothing_left(lab, job, run_dir)
    assert "SIGTERM: stopping with a checkpoint" in log_of(jobs[spot])
    assert "SIGTERM on a node: stopping with a checkpoint" in (lab.folder / f"slurm-{graced}.log").read_text()


def test_a_wrong_partition_is_told_in_the_words_of_slurm(lab: Lab) -> None:
    done = lab.fedray("slurm", "paced.yaml", "--partition", "nosuch", "run.dir=wrong")
    assert done.returncode == 2
    assert "Invalid partition name specified" in done.stderr
    assert done.stdout == ""
    assert not (lab.folder / "wrong").exists()
    (found,) = json.loads(lab.fedray("doctor", "--json").stdout).values()
    (slurm,) = (one for one in found if one["subject"] == "slurm")
    assert re.fullmatch(r"\d+\.\d+\S*; partitions: main \(the default, 3 nodes\), spot .*", slurm["text"]), slurm


def test_in_the_end_no_node_keeps_anything(lab: Lab) -> None:
    lab.run("scancel", "--me", check=False)
    until(lambda: lab.run("squeue", "-h") == "", 60, lambda: lab.run("squeue"))
    assert [lab.leftovers(name) for name in lab.nodes] == [""] * lab.count


def test_the_allocation_is_read_as_slurm_gives_it(lab: Lab) -> None:
    show = "import os; from fedray.slurm.allocation import Allocation as A; print(A.from_env(os.environ))"
    options = [
        "--nodes=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=3",
        "--gpus-per-node=2",
        "--parsable",
        "--output=given-%j",
    ]
    script = f"srun --overlap {sys.executable} -c {shlex.quote(show)}"
    for memory, megabytes in (("--mem=700M", 700), ("--mem-per-cpu=300M", 900)):
        job = int(lab.run("sbatch", "--parsable", *options, memory, "--wrap", script))
        assert lab.ended(job).state == "COMPLETED"
        lines = (lab.folder / f"given-{job}").read_text().splitlines()
        found = sorted(line.partition(" node=")[2] for line in lines if line.startswith("Allocation"))
        rest = f"cpus=3, gpus=2, memory={megabytes << 20}, scratch=None, task=None)"
        assert found == [f"'{name}', {rest}" for name in lab.nodes[:2]]
