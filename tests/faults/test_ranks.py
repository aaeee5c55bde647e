"""Ranks of a worker on two nodes: the bits of one node, also after a rank is lost, or a node with one.

Clients keep what their optimizers know, so that the rows of that are read and written from both.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from tests.faults.nights import SIZES, all_present, go, same_bits
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


@pytest.fixture
def third(nodes: Nodes) -> Iterator[None]:
    """One more node, and after the test two."""
    nodes.add("third")
    yield
    for name in ("third", "second"):
        nodes.kill(name)
    nodes.add("second")


def places(executor: RayExecutor) -> list[list[str]]:
    """The nodes of the ranks of each worker, by id."""
    groups = [*executor.nodes.own, *executor.nodes.others]
    return [[node for node, _ in slot.places] for group in groups for slot in group.spec.slots]


def losing(executor: RayExecutor, one: Federation, after: Mapping[int, Callable[[], None]]) -> list[RoundRecord]:
    """All rounds, with something that happens after some of them."""
    records = []
    for record in Rounds(one.plan, one.state, executor, lambda state: None, awaited=True):
        records.append(record)
        after.get(record.round, lambda: None)()
    return records


@pytest.mark.usefixtures("third")
def test_blocks_of_a_worker_that_a_node_took_along_go_to_another_and_it_is_placed_anew_where_a_node_comes(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The node held its last rank; the worker of the driver's node goes on meanwhile."""
    one = three_ranks(tmp_path)
    head, second, third = (nodes.id(name) for name in ("head", "second", "third"))
    with executing(nodes, one, ON_TWO) as executor:
        by_id = [[head, head, second], [second, third, third]], [[head, head, third], [third, second, second]]
        assert places(executor) in by_id
        gone = "third" if places(executor) == by_id[0] else "second"
        all_present(executor, 2)

        def loses() -> None:
            nodes.kill(gone)

        def joins() -> None:
            assert places(executor) == [[head, head, nodes.id("second" if gone == "third" else "third")]]
            nodes.add(gone)

        records = losing(executor, one, {1: loses, 2: joins})
        same_bits(records, expected)
        all_present(executor, 2)
        assert sorted(places(executor)[1]).count(nodes.id(gone)) == 2
    assert "is lost (node " in caplog.text
    assert "has no room for 1 worker of 3 CPUs and 0 GPUs, and gets none" in caplog.text


def test_the_only_worker_is_placed_anew_on_what_nodes_there_are(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """That of the driver's node, with a node that comes when it is lost."""
    one = three_ranks(tmp_path)

    def replaced() -> None:
        nodes.kill("second")
        nodes.add("second")

    with executing(nodes, one, ON_TWO) as executor:
        (before,) = executor.nodes.own
        same_bits(losing(executor, one, {1: replaced}), expected)
        (now,) = executor.nodes.own
        assert now is not before
        assert places(executor)[0][2] == nodes.id("second")


def test_without_room_anywhere_the_run_ends_as_any_other(nodes: Nodes, tmp_path: Path) -> None:
    """It has a checkpoint then, as ever, and goes on with what nodes there are."""
    one = three_ranks(tmp_path)
    args = replace(ON_TWO, start_timeout=10.0)
    try:
        with (
            executing(nodes, one, args) as executor,
            pytest.raises(
                RunFailed, match=r"round 2: no node has room for 1 worker of 3 .*; last was lost: the worker on"
            ),
        ):
            losing(executor, one, {1: lambda: nodes.kill("second")})
    finally:
        nodes.add("second")
