"""Algorithms on two real nodes of one cluster, where a worker dies: the bits of a quiet run in one process.

One of each kind that workers and nodes can tell apart.  Every algorithm has the same law in
``tests/laws/test_runs.py``, on workers with the code of these and objects of the test's own in the place of their
processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.algorithms import (
    AFL,
    IFCA,
    Centralized,
    Ditto,
    FedAMP,
    FedAvg,
    FedCM,
    FedDyn,
    FedExLoRA,
    FedNova,
    FedPer,
    FedProto,
    HeteroFL,
    LocalOnly,
    Mime,
    Scaffold,
)
from fedray.algorithms.base import Algorithm
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.core.record import VIEWS, RoundRecord
from tests.faults.nights import all_present, go
from tests.faults.nodes import Nodes, fault
from tests.helpers import remembered
from tests.laws.parts import ALGORITHMS, every
from tests.laws.typed import Typed
from tests.laws.usual import PIECES, ROUNDS, usual

pytestmark = pytest.mark.slow

POINTS = ["worker.block", "worker.trained", "worker.folded", "worker.reply"]

OF_EACH_KIND: list[Algorithm] = [
    FedAvg(),
    FedNova(),
    Scaffold(),
    FedCM(alpha=0.3),
    FedDyn(alpha=0.5),
    Ditto(lam=0.5),
    FedPer(),
    FedProto(),
    LocalOnly(),
    Centralized(),
    Mime(),
    AFL(gamma=0.5),
    IFCA(spread=0.5),
    FedAMP(alpha=1.0),
    HeteroFL(),
    FedExLoRA(),
    Typed(),
]


def kind(algorithm: Algorithm, folder: Path) -> tuple[bool, ...]:
    """What of an algorithm shows in blocks, accumulators, broadcasts and in the rows that are kept of clients."""
    plan = usual(folder, algorithm).plan
    profile, layout = plan.task.profile, plan.layout
    parts = (profile.sends, profile.keeps, profile.slots, profile.surveys, profile.apart, profile.others)
    told = plan.algorithm.broadcast_widths(layout)
    return *map(bool, (*parts, told, layout.shared, layout.personal)), algorithm.pools, bool(algorithm.variants())


def test_of_every_kind_there_is_one(tmp_path: Path) -> None:
    """An algorithm of a kind that none of these has is to be added to them."""
    kinds = {kind(algorithm, tmp_path / str(number)) for number, algorithm in enumerate(OF_EACH_KIND)}
    others = {
        str(algorithm): kind(algorithm, tmp_path / f"other{number}") for number, algorithm in enumerate(ALGORITHMS)
    }
    assert {name for name, found in others.items() if found not in kinds} == set()


def seen(records: Sequence[RoundRecord]) -> list[Any]:
    """Evaluations, whose last bits depend on where rows lie in the memory of a process."""
    views = [getattr(record, section) for record in records for section in ("test", *VIEWS.values())]
    return [number for view in views for value in view.values() for number in _numbers(value)]


def _numbers(value: Any) -> list[float]:
    return list(value.values()) if isinstance(value, dict) else [value]


@every("algorithm", OF_EACH_KIND)
def test_an_algorithm_whose_workers_die_on_two_nodes(
    algorithm: Algorithm, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second round of all, that is in its survey if there is one, and in the third beside the evaluation."""
    monkeypatch.setattr(*PIECES)
    quiet = usual(tmp_path / "quiet", algorithm)
    expected = quiet.run()
    number = OF_EACH_KIND.index(algorithm)
    where = ["head", "second"][number % 2]
    nodes.plan(**{where: [fault(POINTS[number // 2 % len(POINTS)], 2), fault("worker.reply", 3)]})
    one = usual(tmp_path / "nodes", algorithm)
    executor = RayExecutor(one.job, WorkerArgs(workers=1))
    try:
        all_present(executor, 2)
        records = go(one, executor)
    finally:
        executor.close()
    assert nodes.to_come() == []
    for record, other in zip(records, expected, strict=True):
        assert record.model_sha256 == other.model_sha256, f"round {record.round}"
        assert (record.train, record.clients, record.metrics) == (other.train, other.clients, other.metrics)
        assert record.evaluated == other.evaluated
    assert seen(records) == pytest.approx(seen(expected), rel=1e-5, abs=1e-6)
    assert torch.equal(one.vector, quiet.vector)
    kept = remembered(quiet)
    assert {name for name, part in remembered(one).items() if not torch.equal(part, kept[name])} == set()
    assert records[ROUNDS - 1].usage["retries"] >= 1
