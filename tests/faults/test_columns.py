"""Workers that reduce rows, and die of it: the bits are those of one process, with any number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.aggregators import Aggregator, MultiKrum, TrimmedMean
from fedray.aggregators import gathered as module
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from tests.faults.nights import go, quiet, same_bits, small
from tests.faults.nodes import Nodes, fault

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """One node, ``head``, of two CPUs."""
    tmp_path_factory.getbasetemp()
    cluster = Nodes()
    try:
        cluster.add("head")
        with cluster.connected():
            yield cluster
    finally:
        cluster.close()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("rule", [TrimmedMean(0.2), MultiKrum(3)], ids=["trimmed_mean", "multi_krum"])
def test_workers_die_while_they_reduce_rows(
    rule: Aggregator, workers: int, node: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a range, which is done again; then two at the same, which the driver does; a worker alone has none."""
    monkeypatch.setattr(module, "_LEAST_VALUES", 40)
    expected = quiet(tmp_path / "quiet", 4, aggregator=rule)
    twice = [fault("worker.columns", 3, block=0)] * 2
    node.plan(head=[fault("worker.columns", 2), *twice] if workers > 1 else [])
    one = small(tmp_path / "run", 4, aggregator=rule)
    executor = RayExecutor(one.job, WorkerArgs(workers=workers))
    try:
        records = go(one, executor)
    finally:
        executor.close()
        node.all_gone("ray::WorkerActor")
    assert node.to_come() == []
    same_bits(records, expected)
    lost = [record.usage["retries"] for record in records]
    assert lost == ([0, 1, 1, 0] if workers > 1 else [0] * 4)
