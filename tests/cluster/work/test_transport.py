"""How vectors cross: whoever is lost on the way, what arrives is added once, and every group knows the round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ObjectStoreFullError

from fedray.aggregators import Mean, Median
from fedray.cluster.work import transport
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.changes import with_changes
from fedray.cluster.work.collective import ProcessGroupBroken
from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.transport import Collective, ObjectStore
from fedray.cluster.work.worker import Arrays, RoundHeader
from fedray.core.errors import RunFailed
from fedray.run.evaluation import TestChunk, TestReport
from tests.cluster.rayless import Actor, FakeRay, Reference

WIDTHS = {"delta": 2}
HEADER = RoundHeader(3, 3, 1.0)
DOWN = {"model": torch.arange(4.0)}


class Group:
    """A group on another node that folded ``value``; it may be lost."""

    def __init__(self, value: float, lost: bool = False) -> None:
        self.value, self.lost, self.is_up = value, lost, True
        self.header, self.takes, self.has = RoundHeader(0, 0, 1.0), 0, -1
        self.arrays: Any = "nothing"
        self.spec = type("Spec", (), {"node": "n"})
        self.actor = Actor(FakeRay(), self)
        self.given: Arrays = {}

    def begin(self, header: RoundHeader, arrays: Any) -> None:
        self.header, self.arrays = header, "by the collective" if arrays is None else arrays.value

    def again(self) -> None:
        self.takes += 1

    def fold(self, members: Sequence[Group] = ()) -> Arrays:
        if any(one.lost for one in (self, *members)):
            raise GroupLost("by hand")
        return {"delta": np.full(2, self.value + sum(one.value for one in members))}

    # What its actor is asked for

    def gpus(self) -> int:
        return 0

    def join(self, rank: Any) -> None:
        pass

    def receive(self, header: RoundHeader) -> None:
        pass

    def contribute(self, header: RoundHeader, worked: bool) -> None:
        self.given = {"delta": np.full(2, self.value if worked else 0.0)}


def ledger_of(groups: Sequence[Group], idle: Sequence[Group] = ()) -> Ledger[Any]:
    """Each group did one item; ``idle`` ones did nothing."""
    ledger: Ledger[Any] = Ledger({i: TestChunk(i, 0, 1) for i in range(len(groups))})
    for position, group in enumerate(groups):
        if group not in idle:
            ledger.accept(group, {position: TestReport(position, {}, 0.0)})
    return ledger


def fetch(way: ObjectStore, groups: Sequence[Group], ledger: Ledger[Any]) -> tuple[dict[str, Any], int, list[Group]]:
    total: dict[str, Any] = {}
    dropped: list[Any] = []
    count = way.fetch(ledger, groups, total, lambda group, error: dropped.append(group))  # type: ignore[arg-type]
    return total, count, dropped


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_the_total_is_that_of_all_who_worked_and_are_there_each_once(fates: list[tuple[bool, bool]]) -> None:
    groups = [Group(2.0**i, lost) for i, (_, lost) in enumerate(fates)]
    idle = [group for group, (worked, _) in zip(groups, fates, strict=True) if not worked]
    ledger = ledger_of(groups, idle)
    total, count, dropped = fetch(ObjectStore(Mean(), WIDTHS), groups, ledger)
    there = [group for group in groups if group not in idle and not group.lost]
    expected = sum(group.value for group in there)
    assert total.get("delta", torch.zeros(2)).tolist() == [expected] * 2
    assert count == 16 * len(there)
    assert dropped == [group for group in groups if group.lost and group not in idle]
    assert [group.takes for group in groups] == [int(group in there) for group in groups]
    assert not any(ledger.has_unkept(group) for group in there)


def test_rows_stay_where_they_are() -> None:
    groups = [Group(1.0), Group(2.0)]
    ledger = ledger_of(groups)
    assert fetch(ObjectStore(Median(), WIDTHS), groups, ledger) == ({}, 0, [])
    assert [group.takes for group in groups] == [0, 0]
    assert all(ledger.has_unkept(group) for group in groups), "they are lost with their node"


def test_more_than_eight_are_added_up_among_themselves_first() -> None:
    asked: list[int] = []

    class Counted(Group):
        def fold(self, members: Sequence[Group] = ()) -> Arrays:
            asked.append(len(members))
            return super().fold(members)

    groups = [Counted(1.0) for _ in range(20)]
    total, _, _ = fetch(ObjectStore(Mean(), WIDTHS), groups, ledger_of(groups))
    assert total["delta"].tolist() == [20.0] * 2
    assert asked == [2] * 6 + [1], "twenty vectors would not fit in the driver's memory, seven do"


def test_a_broadcast_is_put_once_and_told_to_whoever_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    puts: list[Any] = []

    class Store(FakeRay):
        def put(self, value: Any) -> Reference:
            puts.append(value)
            return super().put(value)

    monkeypatch.setattr(transport, "ray", Store())
    way, groups, late = ObjectStore(Mean(), WIDTHS), [Group(1.0), Group(2.0)], Group(3.0)
    way.welcome(late)  # type: ignore[arg-type]
    assert late.arrays == "nothing", "no round has begun"
    assert way.publish(HEADER, DOWN, groups) == 2 * 16  # type: ignore[arg-type]
    way.welcome(late)  # type: ignore[arg-type]
    for group in (*groups, late):
        assert group.header == HEADER
        assert group.arrays["model"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert len(puts) == 1


def test_a_group_that_worked_on_the_last_broadcast_is_told_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are told all of it: who comes late, and who had nothing to do."""
    monkeypatch.setattr(transport, "ray", FakeRay())
    way, worked, idle = ObjectStore(Mean(), WIDTHS), Group(1.0), Group(2.0)
    moved = (slice(1, 2), slice(3, 4))
    way.publish(HEADER, DOWN, [worked, idle], moved)  # type: ignore[list-item]
    assert worked.arrays["model"].tolist() == idle.arrays["model"].tolist() == DOWN["model"].tolist()
    worked.has, idle.has, late = 3, 2, Group(3.0)
    down = {"model": torch.tensor([0.0, -1.0, 2.0, -3.0]), "more": torch.ones(2)}
    sent = way.publish(RoundHeader(4, 4, 1.0), down, [worked, idle], moved)  # type: ignore[list-item]
    assert sent == 4 * (2 + 2) + 8 * 4 + 4 * (4 + 2)
    way.welcome(late)  # type: ignore[arg-type]
    told = {name: torch.from_numpy(array) for name, array in worked.arrays.items()}
    assert told["model.values"].tolist() == [-1.0, -3.0]
    assert with_changes(told, DOWN["model"].clone())["model"].tolist() == down["model"].tolist()
    for group in (idle, late):
        assert group.arrays["model"].tolist() == down["model"].tolist()
    worked.has = 4
    way.publish(RoundHeader(5, 5, 1.0), down, [worked])  # type: ignore[list-item]
    assert "model" in worked.arrays, "nobody has said what has changed"


def test_a_store_without_room_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(value: Any) -> None:
        raise ObjectStoreFullError

    ray = FakeRay()
    monkeypatch.setattr(transport, "ray", ray)
    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(RunFailed, match=r"round 3: the model has no room in .*--object-store-memory.*collective"):
        ObjectStore(Mean(), WIDTHS).publish(HEADER, DOWN, [Group(1.0)])  # type: ignore[list-item]


class FakeProcessGroup:
    """A process group that breaks at one of its three steps, or does not."""

    groups: Sequence[Group] = ()
    breaks_at = ""

    def __init__(self, rank: Any) -> None:
        self._break("join")

    def _break(self, step: str) -> None:
        if step == FakeProcessGroup.breaks_at:
            FakeProcessGroup.breaks_at = ""
            raise ProcessGroupBroken("by hand")

    def broadcast(self, parts: Any) -> None:
        self._break("broadcast")

    def reduce(self, total: dict[str, torch.Tensor]) -> None:
        self._break("reduce")
        for group in self.groups:
            total["delta"] += torch.from_numpy(group.given["delta"])

    def close(self) -> None:
        pass


class FakeRendezvous:
    """Where ranks meet."""

    def ranks(self, devices: Sequence[str]) -> list[Any]:
        return [type("Rank", (), {"device": device})() for device in devices]


@pytest.mark.parametrize("step", ["", "join", "broadcast", "reduce"])
def test_a_collective_that_breaks_anywhere_changes_neither_the_broadcast_nor_the_sum(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    groups, idle = [Group(1.0), Group(2.0), Group(4.0)], Group(8.0)
    everybody = [*groups, idle]
    monkeypatch.setattr(transport, "ray", FakeRay())
    monkeypatch.setattr(transport, "ProcessGroup", FakeProcessGroup)
    monkeypatch.setattr(transport, "Rendezvous", FakeRendezvous)
    monkeypatch.setattr(FakeProcessGroup, "groups", everybody)
    monkeypatch.setattr(FakeProcessGroup, "breaks_at", step)
    way = Collective(Mean(), WIDTHS, driver_gpus=0.0)
    starting = Group(0.0)
    starting.is_up = False
    way.publish(HEADER, DOWN, [*everybody, starting])  # type: ignore[list-item]
    assert all(group.header == HEADER for group in (*everybody, starting))
    by_store = step in ("join", "broadcast")
    assert [group.arrays == "by the collective" for group in everybody] == [not by_store] * 4
    assert starting.arrays != "by the collective", "who was not up is no rank"
    total, _, dropped = fetch(way, everybody, ledger_of(everybody, [idle]))
    assert total["delta"].tolist() == [7.0, 7.0]
    assert dropped == []
    assert ("the collective broke" in caplog.text) == bool(step)
