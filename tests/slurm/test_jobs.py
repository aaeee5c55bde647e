"""Jobs on a real Slurm cluster: the same bits as on one machine, whatever Slurm does to them, and nothing left."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.slurm.conftest import Quiet, Submit
from tests.slurm.lab import ROOT, Lab, hashes, until

pytestmark = pytest.mark.slurm

DIGITS = ROOT / "configs" / "digits.yaml"


def rounds_done(run_dir: Path) -> int:
    """Rounds in the run's metrics so far."""
    metrics = run_dir / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def log_of(run_dir: Path) -> str:
    """The logs of the run's jobs."""
    return "\n".join(path.read_text() for path in sorted(run_dir.glob("slurm-*.log")))


def assert_nothing_left(lab: Lab, run_dir: Path) -> None:
    """No process, no temporary file, no shared memory on any node, and no token in the run folder."""
    for name in lab.nodes:
        until(lambda name=name: lab.processes(name) == [], 10, lambda name=name: f"{name}: {lab.processes(name)}")  # type: ignore[misc]
        left = lab.on(name, "find /tmp /dev/shm -mindepth 1 -maxdepth 1 -name '*fedray*' -o -path '/dev/shm/*'")
        assert left == "", f"{name}: {left}"
    assert not list(run_dir.glob(".slurm-*"))


def members(lab: Lab, address: str, token: Path) -> list[str]:
    """The nodes of the Ray cluster at an address, as far as a token shows them."""
    ask = f"from fedray.ray.members import alive; print(*alive({address!r}))"
    script = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token} timeout 30 {sys.executable} -c {shlex.quote(ask)}"
    return lab.on("node1", script, check=False).split()


def test_three_nodes_give_the_bits_of_one_process(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    run_dir = lab.folder / "digits"
    job = submit(DIGITS, "rounds=3", f"run.dir={run_dir}", "--nodes", 3, "--cpus-per-task", 1)
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert hashes(run_dir) == quiet(DIGITS, 3)
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "finished"
    assert_nothing_left(lab, run_dir)


def test_two_jobs_on_the_same_nodes_do_not_see_each_other(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    # One of them is sent by hand, with the script that stands in slurm/.
    config = lab.folder / "paced.yaml"
    by_hand = int(
        lab.run("sbatch", "--parsable", "--nodes=3", "--mem=1500M", ROOT / "slurm" / "fedray.sbatch", "paced.yaml")
    )
    folders = [lab.folder / "runs" / "paced" / f"slurm-{by_hand}", lab.folder / "beside"]
    jobs = [by_hand, submit(config, f"run.dir={folders[1]}")]
    until(lambda: all(rounds_done(folder) > 0 for folder in folders), 90, lambda: f"{[log_of(f) for f in folders]}")
    assert [lab.job(job).state for job in jobs] == ["RUNNING", "RUNNING"]
    assert len({lab.job(job).batch_host for job in jobs}) == 1, "they are meant to share their nodes"
    addresses = re.findall(r"fedray.slurm.node .*--address (\S+)", "\n".join(lab.processes("node2")))
    tokens = [next(folder.glob(".slurm-*/token")) for folder in folders]
    seen = [members(lab, address, token) for address in sorted(set(addresses)) for token in tokens]
    assert sorted(seen) == [[], [], lab.nodes, lab.nodes], "each token opens one cluster, of three nodes"
    assert [lab.ended(job).state for job in jobs] == ["COMPLETED", "COMPLETED"]
    for folder in folders:
        assert hashes(folder) == quiet(config, 30)
        assert_nothing_left(lab, folder)


def test_a_cancelled_job_leaves_nothing_and_can_go_on(lab: Lab, submit: Submit, quiet: Quiet) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / "cancelled"
    job = submit(config, f"run.dir={run_dir}")
    until(lambda: rounds_done(run_dir) > 6, 90, lambda: log_of(run_dir))
    lab.run("scancel", job)
    assert lab.ended(job).state == "CANCELLED"
    assert lab.job(job).restarts == 0
    assert_nothing_left(lab, run_dir)
    again = submit(run_dir, "rounds=20", "--nodes", 2)
    assert lab.ended(again).state == "COMPLETED", log_of(run_dir)
    assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] >= 5
    assert hashes(run_dir) == quiet(config, 20)


# Slurm warns the batch process if told to; when it preempts a job with a grace time, it warns the nodes.
@pytest.mark.parametrize("warning", ["--batch --signal=USR1", "--signal=TERM"])
def test_a_warned_run_saves_and_goes_on_by_itself(lab: Lab, submit: Submit, quiet: Quiet, warning: str) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / f"warned{warning[-4:]}"
    job = submit(config, f"run.dir={run_dir}")
    until(lambda: rounds_done(run_dir) > 2, 90, lambda: log_of(run_dir))
    lab.run("scancel", *warning.split(), job)
    until(lambda: lab.job(job).restarts == 1, 60, lambda: log_of(run_dir))
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert hashes(run_dir) == quiet(config, 30)
    assert 2 < json.loads((run_dir / "summary.json").read_text())["resumed_from"] < 30
    assert_nothing_left(lab, run_dir)


@pytest.mark.parametrize("victim", ["node3", "node1"])
def test_a_lost_node_costs_no_bits(lab: Lab, submit: Submit, quiet: Quiet, victim: str) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / f"lost-{victim}"
    job = submit(config, f"run.dir={run_dir}")
    until(lambda: rounds_done(run_dir) > 2, 90, lambda: log_of(run_dir))
    lab.kill(victim)
    try:
        ended = lab.ended(job)
    finally:
        lab.boot(victim)
        until(lambda: lab.idle() == lab.count, 60, "the node does not come back")
    assert ended.state == "COMPLETED", log_of(run_dir)
    assert hashes(run_dir) == quiet(config, 30)
    assert_nothing_left(lab, run_dir)


def test_a_wrong_partition_is_told_in_the_words_of_slurm(lab: Lab) -> None:
    done = lab.fedray("slurm", "paced.yaml", "--partition", "nosuch", "run.dir=wrong")
    assert done.returncode == 2
    assert "Invalid partition name specified" in done.stderr
    assert done.stdout == ""
    assert not (lab.folder / "wrong").exists()
