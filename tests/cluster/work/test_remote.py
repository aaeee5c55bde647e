"""The driver's end of another node: what Ray raises is told apart into lost, unfit, full, failed, and asked again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    ObjectStoreFullError,
    RaySystemError,
    RayTaskError,
)

from fedray.aggregators.stored import RowsLost
from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work import remote
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.collective import ProcessGroupBroken
from fedray.cluster.work.node import Answer
from fedray.cluster.work.remote import NodeShelf, NodeUnfit, RemoteWorkerGroup
from fedray.cluster.work.worker import RoundHeader
from fedray.core import inject
from fedray.core.errors import RunFailed
from fedray.core.messages import Floats, Ints
from fedray.run.evaluation import TestChunk, TestReport
from fedray.run.usage import Reading
from tests.cluster.rayless import HERE, FakeRay, raised_there

ITEMS = {4: TestChunk(4, 0, 10)}


class FakeNode:
    """The actor of a node, which does everything at once."""

    def __init__(self, payload: Any, spec: GroupSpec, reservation: Any) -> None:
        self.calls: list[tuple[int, RoundHeader]] = []

    def up(self) -> Answer:
        return Answer(None, [], 0, [0, 1], ["a silo is without its own worker"])

    def work(self, call: int, header: RoundHeader, arrays: Any, packed: bytes) -> bytes:
        self.calls.append((call, header))
        done = {position: TestReport(position, {}, 0.0) for position in pickle.loads(packed)}
        return pickle.dumps(Answer(done, [Reading("n/0")], 1, [0], []))  # type: ignore[arg-type]

    def fold(self, *others: int) -> int:
        return 1 + sum(others)

    def held(self) -> tuple[Ints, Floats]:
        return np.array([3, 8]), np.array([1.0, 2.0])

    def columns(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        whole = {"delta": np.arange(8.0, dtype="f4").reshape(2, 4)}
        return whole[part][rows, start:stop]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


class Room:
    """A reservation, and whether it was given back."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


Make = Callable[..., RemoteWorkerGroup]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a group; keywords say what happens to the calls of its actor."""

    def group(**fails: list[Any]) -> RemoteWorkerGroup:
        monkeypatch.setattr(remote, "ray", FakeRay(dict(fails)))
        monkeypatch.setattr(remote, "NodeActor", FakeNode)
        monkeypatch.setattr(remote.Reservation, "of", lambda spec: Room())  # type: ignore[attr-defined]
        return RemoteWorkerGroup(None, GroupSpec(HERE, "n", [Slot(Size())] * 2))

    return group


def go_on() -> bool:
    return False


def lost_answer() -> Exception:
    error: Exception = ActorUnavailableError("by hand", None)
    return error


def died_at_birth(cause: Exception) -> Exception:
    traceback = f"Traceback\nRunFailed: {cause}"
    error: Exception = ActorDiedError(RayTaskError("__init__", traceback, cause, proctitle="w", ip="x"))
    return error


def test_an_answer_that_was_lost_is_asked_for_again_by_the_same_number(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    group = make(work=[lost_answer(), lost_answer()])
    group.begin(RoundHeader(1, 1, 1.0), None)
    assert list(group.work(ITEMS, go_on) or {}) == [4]
    assert list(group.work(ITEMS, go_on) or {}) == [4]
    assert [call for call, _ in group.actor.behind.calls] == [1, 1, 1, 2]
    assert caplog.text.count("an answer of node n was lost, asking again") == 2
    assert (group.ranks, group.retries, len(group.readings())) == ([0], 1, 1)


def test_whoever_never_answers_is_lost(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_UNAVAILABLE", 3)
    with pytest.raises(GroupLost, match="no answer in 3 attempts"):
        make(work=[lost_answer()] * 3).work(ITEMS, go_on)


def test_a_lost_answer_can_be_planned(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the point node.answer, as nights on a cluster do."""
    (tmp_path / "plan").write_text('[{"point": "node.answer", "round": 5, "action": "lose"}]')
    monkeypatch.setenv(inject.PLAN, str(tmp_path / "plan"))
    group = make()
    group.begin(RoundHeader(1, 5, 1.0), None)
    assert list(group.work(ITEMS, go_on) or {}) == [4]
    assert len(group.actor.behind.calls) == 2


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (ActorDiedError(), GroupLost, "The actor died"),
        (RaySystemError("by hand"), GroupLost, "by hand"),
        (raised_there(ProcessGroupBroken("no broadcast")), GroupLost, "^no broadcast$"),
        (raised_there(GetTimeoutError("gone")), GroupLost, "^gone$"),
        (raised_there(RunFailed("two workers died")), RunFailed, "^two workers died$"),
        (raised_there(ZeroDivisionError("by hand")), RunFailed, "^node n: ZeroDivisionError: by hand$"),
        (raised_there(ObjectStoreFullError()), RunFailed, "round 7: the model has no room in .* on node n"),
        (ObjectStoreFullError(), RunFailed, "has no room in Ray's object store on the driver's node"),
    ],
)
def test_whose_fault_it_is_decides_how_it_goes_on(
    make: Make, raised: Exception, kind: type[Exception], words: str
) -> None:
    """A node that is gone is done without; what would fail on any node ends the run."""
    group = make(work=[raised])
    group.begin(RoundHeader(7, 7, 1.0), None)
    with pytest.raises(kind, match=words):
        group.work(ITEMS, go_on)


@pytest.mark.parametrize("raised", [raised_there(RunFailed("no room")), died_at_birth(RunFailed("no room"))])
def test_a_node_that_cannot_start_is_unfit_and_not_just_lost(make: Make, raised: Exception) -> None:
    group = make(up=[raised])
    with pytest.raises(NodeUnfit, match=r"no room$"):
        group.look(0)


def test_it_is_up_once_it_says_so_and_what_it_warns_of_is_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    assert not make(up=["late"]).look(0)
    group = make(up=[lost_answer()])
    assert [(group.look(0), group.up), (group.look(0), group.up)] == [(False, 0), (True, 2)]
    assert caplog.messages == ["a silo is without its own worker"]
    assert (group.ranks, group.capacity(None)) == ([0, 1], 2)


def test_a_round_forgets_what_the_last_one_took_and_a_take_does_not(make: Make) -> None:
    group = make()
    group.begin(RoundHeader(1, 1, 1.0), None)
    group.work(ITEMS, go_on)
    group.again()
    assert (group.header.take, group.retries, group.network > 0) == (1, 1, True)
    group.begin(RoundHeader(2, 2, 1.0), None)
    assert (group.header.take, group.retries, group.network, group.readings()) == (0, 0, 0, [])


def test_who_is_stopped_tells_the_node(make: Make) -> None:
    group = make(work=["late"])
    assert group.work(ITEMS, lambda: True) is None
    assert remote.ray.calls[-1] == "stop"  # type: ignore[attr-defined]


def test_sums_are_made_where_the_group_is_and_it_is_ended_with_its_room(make: Make) -> None:
    group, other = make(), make()
    assert group.fold([other, other]) == 3  # type: ignore[comparison-overlap]
    group.close()
    assert remote.ray.killed == [group.actor]  # type: ignore[attr-defined]
    assert group._reservation.closed == 1  # type: ignore[attr-defined]


def test_rows_of_another_node_are_read_where_they_lie_and_counted(make: Make) -> None:
    group = make(columns=[lost_answer()])
    shelf = NodeShelf(group, lambda one, error: None)
    assert (shelf.clients.tolist(), shelf.weight.tolist()) == ([3, 8], [1.0, 2.0])
    assert shelf.read("delta", np.array([1, 0]), 1, 3).tolist() == [[5.0, 6.0], [1.0, 2.0]]
    assert group.network == 2 * 2 * 4


@pytest.mark.parametrize("method", ["held", "columns"])
def test_rows_that_are_lost_with_their_node_are_told_of(method: str, make: Make) -> None:
    group = make(**{method: [ActorDiedError()]})
    told: list[RemoteWorkerGroup] = []
    with pytest.raises(RowsLost, match=r"^node n is lost, with updates that were to be looked at$"):
        NodeShelf(group, lambda one, error: told.append(one)).read("delta", np.array([0]), 0, 1)
    assert told == [group]
