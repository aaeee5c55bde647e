"""Rows that workers and nodes hold, and those who hold them die: every update is looked at once, to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.aggregators import Aggregator, MultiKrum, TrimmedMean
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.run.loop import Rounds
from tests.faults.nights import all_present, quiet, same_bits, small
from tests.faults.nodes import Nodes, fault
from tests.faults.test_workers import POINTS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rule", [TrimmedMean(0.2), MultiKrum(3)], ids=["trimmed_mean", "multi_krum"])
def test_workers_and_nodes_die_with_rows(
    rule: Aggregator, nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers at every point, here and there; then a node after its work is done, before and while it is read."""
    rounds = 4 + len(POINTS)
    expected = quiet(tmp_path / "quiet", rounds, aggregator=rule)
    head = [fault(point, number) for number, point in enumerate(POINTS, 2)]
    second = [fault(point, number) for number, point in enumerate(reversed(POINTS), 2)]
    held, columns = fault("node.folded", rounds - 2), fault("node.columns", rounds)
    nodes.plan(head=head, second=[*second, held, columns])
    one = small(tmp_path / "run", rounds, aggregator=rule)
    executor = RayExecutor(one.job, WorkerArgs(workers=1))
    records = []
    try:
        all_present(executor, 2)
        for record in Rounds(one.plan, one.state, executor, lambda state: None):
            records.append(record)
            if record.round >= rounds - 2:  # it comes a round late, when a node that is lost has no group yet
                all_present(executor, 2)
    finally:
        executor.close()
        nodes.all_gone("ray::WorkerActor", "ray::NodeActor")
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert caplog.text.count("that were to be looked at; the round is done again") == 2
    assert [record.usage["nodes"] for record in records[: 1 + len(POINTS)]] == [2] * (1 + len(POINTS))
