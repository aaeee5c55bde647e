"""Every algorithm on two real nodes of one cluster, where a worker dies: the bits of a quiet run in one process.

Of those whose servers alone differ one is enough: workers and nodes see the clients' half.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.algorithms.base import Algorithm
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.core.record import VIEWS, RoundRecord
from tests.faults.nights import all_present, go
from tests.faults.nodes import Nodes, fault
from tests.helpers import remembered
from tests.laws.parts import ALGORITHMS, OTHER_SERVERS, every
from tests.laws.usual import PIECES, ROUNDS, usual

pytestmark = pytest.mark.slow

POINTS = ["worker.block", "worker.trained", "worker.folded", "worker.reply"]


def seen(records: Sequence[RoundRecord]) -> list[Any]:
    """Evaluations, whose last bits depend on where rows lie in the memory of a process."""
    views = [getattr(record, section) for record in records for section in ("test", *VIEWS.values())]
    return [number for view in views for value in view.values() for number in _numbers(value)]


def _numbers(value: Any) -> list[float]:
    return list(value.values()) if isinstance(value, dict) else [value]


@every("algorithm", [algorithm for algorithm in ALGORITHMS if algorithm not in OTHER_SERVERS])
def test_an_algorithm_whose_workers_die_on_two_nodes(
    algorithm: Algorithm, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second round of all, that is in its survey if there is one, and in the third beside the evaluation."""
    monkeypatch.setattr(*PIECES)
    quiet = usual(tmp_path / "quiet", algorithm)
    expected = quiet.run()
    number = ALGORITHMS.index(algorithm)
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
