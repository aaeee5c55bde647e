"""Ranks of a worker on two nodes: the bits of one node, also after a rank is lost; a lost node is a clear end.

Clients keep what their optimizers know, so that the rows of that are read and written from both.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray import optim
from fedray.cluster.place.placement import Size
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.config.sections import LocalSection
from fedray.core.errors import RunFailed
from fedray.core.record import RoundRecord
from fedray.run.loop import Rounds
from tests.faults.nights import SIZES, go, same_bits
from tests.faults.nodes import Nodes
from tests.helpers import Federation, class_problem, federation

pytestmark = pytest.mark.slow

ON_ONE = WorkerArgs(workers=1, size=Size(1.5), ranks=3)
ON_TWO = WorkerArgs(workers=1, size=Size(3.0), ranks=3, start_timeout=30.0)
"""Each node has two CPUs: no room for three ranks of one."""


def three_ranks(folder: Path) -> Federation:
    """Thirty clients that step one by one, and go on with their moments."""
    args = LocalSection(1, 4, keep_optimizer=True)
    return federation(class_problem(sizes=SIZES, test=40), folder, optimizer=optim.Adam(0.05), args=args, stack="off")


@contextlib.contextmanager
def executing(nodes: Nodes, one: Federation, args: WorkerArgs) -> Iterator[RayExecutor]:
    """An executor of which nothing is left at the end."""
    nodes.plan()
    executor = RayExecutor(one.job, args)
    try:
        yield executor
    finally:
        executor.close()
        nodes.all_gone("ray::WorkerActor", "ray::FollowingRank", "ray::NodeActor")


@pytest.fixture(scope="module")
def expected(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> list[RoundRecord]:
    """The run of workers that have all their ranks on one node."""
    one = three_ranks(tmp_path_factory.mktemp("expected"))
    with executing(nodes, one, ON_ONE) as executor:
        return go(one, executor)


def test_ranks_on_two_nodes_have_the_bits_of_one_node(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path
) -> None:
    one = three_ranks(tmp_path)
    with executing(nodes, one, ON_TWO) as executor:
        (group,) = executor.nodes.own
        assert [node for node, _ in group.spec.slots[0].places] == [nodes.id(n) for n in ("head", "head", "second")]
        records = go(one, executor)
        same_bits(records, expected)
        assert [record.usage["nodes"] for record in records] == [2, 2, 2]
        assert [len(nodes.processes("ray::FollowingRank", name)) for name in ("head", "second")] == [1, 1]


def test_a_rank_that_dies_on_another_node_is_replaced_there(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, records = three_ranks(tmp_path), []
    with executing(nodes, one, ON_TWO) as executor:
        for record in Rounds(one.plan, one.state, executor, lambda state: None, awaited=True):
            records.append(record)
            if record.round == 1:
                (rank,) = nodes.processes("ray::FollowingRank", "second")
                os.kill(rank, signal.SIGKILL)
        assert len(nodes.processes("ray::FollowingRank", "second")) == 1
    same_bits(records, expected)
    assert "round 2: worker" in caplog.text
    assert "died, and is replaced (rank " in caplog.text


def test_a_node_that_is_lost_with_a_rank_ends_the_run_and_says_so(nodes: Nodes, tmp_path: Path) -> None:
    """It has a checkpoint then, as ever, and goes on with what nodes there are."""
    one = three_ranks(tmp_path)
    try:
        with executing(nodes, one, ON_TWO) as executor:
            rounds = iter(Rounds(one.plan, one.state, executor, lambda state: None, awaited=True))
            assert next(rounds).round == 1
            nodes.kill("second")
            with pytest.raises(RunFailed, match=r"a worker could not start on node .*: one of 3 CPUs .* did not come"):
                next(rounds)
    finally:
        nodes.add("second")
