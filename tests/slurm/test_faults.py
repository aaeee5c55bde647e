"""Bad nights on real Slurm nodes: faults at named points of the rounds, power failures, and the bits of a quiet run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.slurm.conftest import Quiet, Submit
from tests.slurm.lab import Lab, assert_nothing_left, hashes, log_of, rounds_done, until, wait_for_rounds

pytestmark = pytest.mark.slurm

ROUNDS = 10
POINTS = ["worker.block", "worker.trained", "worker.folded", "worker.reply"]
CONFIG = f"""\
base: [paced.yaml]
data: {{clients: 30}}
model: {{name: logistic}}
local: {{stack: 2}}
algorithm: {{name: scaffold}}
rounds: {ROUNDS}
checkpoint: {{every: 2}}
cluster: {{workers: 1, min_workers: 2}}
"""


@pytest.fixture(scope="module")
def config(lab: Lab) -> Path:
    """Thirty clients in fifteen blocks, and no brake."""
    path = lab.folder / "thirty.yaml"
    path.write_text(CONFIG)
    return path


def planned(plan: Path, faults: list[Mapping[str, Any]]) -> str:
    """Write a plan; the option with which every process of a job learns of it: who passes a point first acts on it."""
    plan.write_text(json.dumps(faults))
    return f"cluster.prologue=['export FEDRAY_FAULTS={plan}']"


def happened(plan: Path) -> list[bool]:
    """Of each fault that was planned."""
    return [Path(f"{plan}.{number}").exists() for number in range(len(json.loads(plan.read_text())))]


def nodes_used(run_dir: Path) -> int:
    """By the run's last round."""
    nodes: int = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["usage"]["nodes"]
    return nodes


def test_a_bad_night_costs_no_bits(lab: Lab, submit: Submit, config: Path, quiet: Quiet) -> None:
    """In each round a worker is killed and an answer is lost; a node is lost, and the job goes on without it, as it was
    told to, until it is warned of the end of its time.  It waits for that before its last round but one: Slurm may take
    longer to miss a node than all rounds do.
    """
    draw = np.random.default_rng(20261125)
    rounds = range(1, ROUNDS + 1)
    kills = [{"point": str(draw.choice(POINTS)), "round": round, "action": "kill"} for round in rounds]
    lost = [{"point": "node.answer", "round": round, "action": "lose"} for round in rounds]
    held = {"point": "driver.round", "round": ROUNDS - 1, "action": "wait"}
    run_dir, plan = lab.folder / "night", lab.folder / "night.json"
    job = submit(config, planned(plan, [*kills, *lost, held]), f"run.dir={run_dir}", "--sbatch=no-kill")
    wait_for_rounds(run_dir, 2)
    until(lambda: nodes_used(run_dir) == 3, 60, lambda: log_of(run_dir))
    assert lab.job(job).batch_host == "node1"
    lab.kill("node3")
    try:
        until(lambda: nodes_used(run_dir) == 2, 60, lambda: log_of(run_dir))
        # Ray may notice first. A node back before Slurm missed it would restart a job that has just begun there.
        until(lambda: lab.is_down("node3"), 60, lambda: lab.run("sinfo", "-N"))
        assert lab.job(job).restarts == 0
        seen = rounds_done(run_dir)
        lab.run("scancel", "--batch", "--signal=USR1", job)
        Path(f"{plan}.go").touch()
        until(lambda: lab.job(job).restarts == 1, 60, lambda: log_of(run_dir))
    finally:
        lab.boot("node3")
    assert lab.ended(job, 180).state == "COMPLETED", log_of(run_dir)
    assert seen < ROUNDS
    assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] >= seen
    assert lab.job(job).restarts == 1, log_of(run_dir)
    assert all(happened(plan))
    assert hashes(run_dir) == quiet(config, ROUNDS)
    assert_nothing_left(lab, job, run_dir)
    until(lambda: lab.idle() == lab.count, 60, "the node does not come back")


def test_a_job_outlives_its_first_node(lab: Lab, submit: Submit, config: Path, quiet: Quiet) -> None:
    """On which Ray's head, the driver and the batch process are: first Ray dies there, then all of it at once."""
    fold = {"point": "driver.fold", "action": "kill_parent", "round": 4}
    run_dir, plan = lab.folder / "headless", lab.folder / "headless.json"
    job = submit(config, planned(plan, [fold, {**fold, "action": "hang", "round": 7}]), f"run.dir={run_dir}")
    until(lambda: lab.job(job).restarts == 1, 120, lambda: log_of(run_dir))
    assert happened(plan) == [True, False]
    until(lambda: all(happened(plan)), 120, lambda: log_of(run_dir))
    assert lab.job(job).batch_host == "node1"
    lab.kill("node1")
    try:
        until(lambda: lab.job(job).restarts == 2, 60, lambda: str(lab.job(job)))
        until(lambda: not any(lab.processes(name, job) for name in lab.nodes[1:]), 30, "processes outlive the head")
    finally:
        lab.boot("node1")
    assert lab.ended(job).state == "COMPLETED", log_of(run_dir)
    assert "node1, node2, node3 lost" in log_of(run_dir)
    assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] == 6
    assert hashes(run_dir) == quiet(config, ROUNDS)
    assert_nothing_left(lab, job, run_dir)
    until(lambda: lab.idle() == lab.count, 60, "the node does not come back")
