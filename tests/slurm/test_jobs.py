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
from tests.slurm.lab import ROOT, Lab, hashes, until

pytestmark = pytest.mark.slurm

DIGITS = ROOT / "configs" / "digits.yaml"


@pytest.fixture(scope="module", autouse=True)
def limited(lab: Lab) -> Iterator[tuple[int, Path]]:
    """A job with a time limit of two minutes, and its run folder: it comes near it while the other tests run."""
    run_dir = lab.folder / "limited"
    options = ["rounds=1000", f"run.dir={run_dir}", "--time", "00:02:00"]
    said = lab.fedray("slurm", lab.folder / "paced.yaml", *options).stdout
    job = int(said.split()[2])
    yield job, run_dir
    lab.run("scancel", job, check=False)


def rounds_done(run_dir: Path) -> int:
    """Rounds in the run's metrics so far."""
    metrics = run_dir / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def log_of(run_dir: Path) -> str:
    """The logs of the run's jobs."""
    return "\n".join(path.read_text() for path in sorted(run_dir.glob("slurm-*.log")))


def assert_nothing_left(lab: Lab, job: int, run_dir: Path) -> None:
    """No process and no temporary file of the job on any node, and no token in the run folder."""

    def there() -> list[str]:
        return [f"{name}: {line}" for name in lab.nodes for line in lab.processes(name, job)]

    until(lambda: not there(), 10, lambda: "\n".join(there()))
    for name in lab.nodes:
        assert f"-{job}." not in lab.leftovers(name)
    assert not list(run_dir.glob(".slurm-*"))


def members(lab: Lab, address: str, token: Path) -> list[str]:
    """The nodes of the Ray cluster at an address, as far as a token shows them."""
    ask = f"from fedray.ray.members import alive; print(*alive({address!r}))"
    script = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token} timeout 15 {sys.executable} -c {shlex.quote(ask)}"
    return lab.on("node1", script, check=False).split()


def test_three_nodes_give_the_bits_of_one_process(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    run_dir = lab.folder / "digits"
    job = submit(DIGITS, "rounds=3", f"run.dir={run_dir}", "--nodes", 3, "--cpus-per-task", 1)
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert hashes(run_dir) == quiet(DIGITS, 3)
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "finished"
    assert_nothing_left(lab, job, run_dir)


def test_two_jobs_on_the_same_nodes_do_not_see_each_other(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    # One of them is sent by hand, with the script that stands in slurm/.
    config = lab.folder / "paced.yaml"
    script = [ROOT / "slurm" / "fedray.sbatch", "paced.yaml", "rounds=1000"]
    by_hand = int(lab.run("sbatch", "--parsable", "--nodes=3", "--mem=1500M", *script))
    folders = [lab.folder / "runs" / "paced" / f"slurm-{by_hand}", lab.folder / "beside"]
    jobs = [by_hand, submit(config, "rounds=1000", f"run.dir={folders[1]}")]
    until(lambda: all(rounds_done(folder) > 0 for folder in folders), 90, lambda: f"{[log_of(f) for f in folders]}")
    assert [lab.job(job).state for job in jobs] == ["RUNNING", "RUNNING"]
    assert len({lab.job(job).batch_host for job in jobs}) == 1, "they are meant to share their nodes"
    commands = ["\n".join(lab.processes("node2", job)) for job in jobs]
    addresses = [re.findall(r"fedray.slurm.node .*--address (\S+)", lines)[0] for lines in commands]
    tokens = [next(folder.glob(".slurm-*/token")) for folder in folders]
    seen = [members(lab, address, token) for address in addresses for token in tokens]
    assert seen == [lab.nodes, [], [], lab.nodes], "each token opens its own job's cluster, of three nodes"
    lab.run("scancel", "--batch", "--signal=INT", *jobs)
    assert [lab.ended(job).exit_code for job in jobs] == ["75:0", "75:0"], "stopped for good, with a checkpoint"
    for job, folder in zip(jobs, folders, strict=True):
        assert hashes(folder).items() <= quiet(config, 1000).items()
        assert_nothing_left(lab, job, folder)


def test_a_cancelled_job_saves_leaves_nothing_and_can_go_on(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / "cancelled"
    job = submit(config, f"run.dir={run_dir}", "checkpoint.every=0")
    until(lambda: rounds_done(run_dir) > 2, 90, lambda: log_of(run_dir))
    seen = rounds_done(run_dir)
    lab.run("scancel", job)
    assert lab.ended(job).state == "CANCELLED"
    assert lab.job(job).restarts == 0, "who cancels does not want it back"
    assert safe_rounds(run_dir) >= seen, log_of(run_dir)
    assert_nothing_left(lab, job, run_dir)
    again = submit(run_dir, "rounds=20", "--nodes", 2)
    assert lab.ended(again).state == "COMPLETED", log_of(run_dir)
    assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] >= seen
    assert hashes(run_dir) == quiet(config, 20)


def test_a_preempted_run_saves_and_goes_on_by_itself(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    # Without a time of grace Slurm signals every process of the job and requeues it.  With one it signals the nodes'
    # programs alone, and waits.
    config = lab.folder / "paced.yaml"
    jobs = {}
    for partition in ("spot", "graced"):
        options = ["--partition", partition, "--nodes", 2, "rounds=60", "checkpoint.every=0"]
        jobs[partition] = submit(config, f"run.dir={partition}", *options)
    until(lambda: all(rounds_done(lab.folder / name) > 2 for name in jobs), 90, lambda: log_of(lab.folder / "spot"))
    seen = {name: rounds_done(lab.folder / name) for name in jobs}
    lab.run("sbatch", "--partition=urgent", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap", "true")
    for name, job in jobs.items():
        run_dir = lab.folder / name
        assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
        assert lab.job(job).restarts == 1
        assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] >= seen[name]
        assert hashes(run_dir) == quiet(config, 60)
        assert_nothing_left(lab, job, run_dir)
    assert "SIGTERM: stopping" in log_of(lab.folder / "spot")
    assert "SIGTERM on a node: stopping" in log_of(lab.folder / "graced")


def test_a_warned_run_saves_and_goes_on_by_itself(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / "warned"
    job = submit(config, f"run.dir={run_dir}")
    until(lambda: rounds_done(run_dir) > 2, 90, lambda: log_of(run_dir))
    lab.run("scancel", "--batch", "--signal=USR1", job)
    until(lambda: lab.job(job).restarts == 1, 60, lambda: log_of(run_dir))
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert hashes(run_dir) == quiet(config, 30)
    assert 2 < json.loads((run_dir / "summary.json").read_text())["resumed_from"] < 30
    assert_nothing_left(lab, job, run_dir)


def test_a_run_near_its_time_limit_saves_and_goes_on(lab: Lab, limited: tuple[int, Path], quiet: Quiet) -> None:
    job, run_dir = limited
    until(lambda: lab.job(job).restarts >= 1, 120, lambda: log_of(run_dir))
    before = rounds_done(run_dir)
    until(lambda: rounds_done(run_dir) > before + 5, 120, lambda: log_of(run_dir))
    lab.run("scancel", "--batch", "--signal=INT", job)
    ended = lab.ended(job)
    assert (ended.state, ended.exit_code) == ("FAILED", "75:0"), "SIGINT is the user's own wish to stop: no requeue"
    assert "SIGUSR1: stopping with a checkpoint" in log_of(run_dir)
    assert hashes(run_dir).items() <= quiet(lab.folder / "paced.yaml", 1000).items()
    assert_nothing_left(lab, job, run_dir)


@pytest.mark.parametrize(("victim", "options", "restarts"), [("node3", ["--sbatch", "no-kill"], 0), ("node1", [], 1)])
def test_a_lost_node_costs_no_bits(
    lab: Lab, submit: Submit, quiet: Quiet, victim: str, options: list[str], restarts: int
) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / f"lost-{victim}"
    job = submit(config, f"run.dir={run_dir}", *options)
    until(lambda: rounds_done(run_dir) > 6, 90, lambda: log_of(run_dir))
    lab.kill(victim)
    try:
        until(lambda: lab.job(job).state == "COMPLETED" or lab.job(job).restarts == 1, 90, lambda: log_of(run_dir))
    finally:
        lab.boot(victim)
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert lab.job(job).restarts == restarts
    assert hashes(run_dir) == quiet(config, 30)
    until(lambda: lab.idle() == lab.count, 60, "the node does not come back")


def test_a_wrong_partition_is_told_in_the_words_of_slurm(lab: Lab) -> None:
    done = lab.fedray("slurm", "paced.yaml", "--partition", "nosuch", "run.dir=wrong")
    assert done.returncode == 2
    assert "Invalid partition name specified" in done.stderr
    assert done.stdout == ""
    assert not (lab.folder / "wrong").exists()


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
        rest = f"cpus=3, gpus=2, memory={megabytes << 20}, scratch=None)"
        assert found == [f"'{name}', {rest}" for name in lab.nodes[:2]]
