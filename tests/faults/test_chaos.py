"""A bad night: in each round a worker is killed and an answer is lost, and once the driver; the model is that of a
quiet one, bit for bit.  ``-s`` shows the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from tests.cluster import problem
from tests.faults.nodes import Nodes, fault

ROUNDS, CLIENTS, DRIVER_DIES = 10, 30, 6
POINTS = ["worker.block", "worker.trained", "worker.folded", "worker.reply"]


BOTH = fedray.Cluster(workers=1, min_workers=2, start_timeout=60.0)
"""A worker on each of two nodes, and no round without both."""


def train(folder: Path, cluster: Any, resume: bool = False) -> None:
    """Thirty clients in fifteen blocks."""
    args = fedray.TrainArgs(
        rounds=ROUNDS, batch_size=8, stack=2, seed=11, checkpoint_every=2, tracking=[], evaluate_every=5
    )
    fedray.train(
        problem.model(),
        problem.data(CLIENTS),
        args,
        algorithm=fedray.Scaffold(),
        cluster=cluster,
        run_dir=folder,
        resume=resume,
        progress=False,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    """Of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_bad_night_ends_with_the_bits_of_a_quiet_one(nodes: Nodes, tmp_path: Path) -> None:
    draw = np.random.default_rng(20261123)
    night = [(str(draw.choice(["head", "second"])), str(draw.choice(POINTS))) for _ in range(ROUNDS)]
    kills = {
        name: [fault(point, round) for round, (where, point) in enumerate(night, 1) if where == name]
        for name in ("head", "second")
    }
    # The driver is an actor on the head node.
    lost = [fault("node.answer", round, "lose") for round in range(1, ROUNDS + 1)]
    nodes.plan(head=[*kills["head"], *lost, fault("driver.fold", DRIVER_DIES)], second=kills["second"])

    go_on = rf"fedray\.train\(\.\.\., run_dir='{tmp_path}/bad', resume=True\)"
    with pytest.raises(fedray.RunFailed, match=f"the driver died.*go on with `{go_on}`"):
        train(tmp_path / "bad", BOTH)
    assert lines(tmp_path / "bad")[-1]["round"] < DRIVER_DIES
    train(tmp_path / "bad", BOTH, resume=True)
    train(tmp_path / "quiet", "inline")

    assert nodes.to_come() == []
    bad, quiet = lines(tmp_path / "bad"), lines(tmp_path / "quiet")
    print(f"\n{'round':>5}  {'worker killed':24}{'answer lost':14}{'driver killed':16}quiet     bad night")
    for (where, point), one, other in zip(night, quiet, bad, strict=True):
        killed = "driver.fold" if one["round"] == DRIVER_DIES else ""
        hashes = f"{one['model_sha256'][:8]}  {other['model_sha256'][:8]}"
        print(f"{one['round']:5}  {where + ' ' + point:24}{'second':14}{killed:16}{hashes}")
    assert [line["round"] for line in bad] == list(range(1, ROUNDS + 1))
    for same in ("model_sha256", "clients", "weight", "examples"):
        assert [line[same] for line in bad] == [line[same] for line in quiet]
    assert all(line["usage"]["nodes"] == 2 for line in bad)
    summary = json.loads((tmp_path / "bad" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", ROUNDS)
    assert summary["totals"]["retries"] >= ROUNDS - 2
    nodes.all_gone("ray::WorkerActor", "ray::NodeActor", "ray::DriverActor")
