"""Whatever worker groups take, lose and keep: each item is done once, by somebody who may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.queue import WorkQueue
from fedray.run.worker import HoldoutChunk, Report, TestChunk, TestReport

PINS = (None, "north", "south")


@dataclass(eq=False)
class Group:
    """A worker group of the model: what lies in its memory and is nowhere else."""

    slots: Mapping[str | None, int]
    memory: Counter[int] = field(default_factory=Counter)

    @property
    def pins(self) -> frozenset[str | None]:
        """What it takes."""
        return frozenset(self.slots)

    def capacity(self, pin: str | None) -> int:
        """How many of it take such work."""
        return self.slots.get(pin, 0)


groups = st.builds(Group, st.dictionaries(st.sampled_from(PINS), st.integers(1, 4), min_size=1))
work = st.lists(st.sampled_from(PINS), max_size=30)


def items(pins: list[str | None]) -> list[HoldoutChunk]:
    return [HoldoutChunk(index, np.zeros(0, dtype=np.int64), pin) for index, pin in enumerate(pins)]


def report(position: int) -> Report:
    return TestReport(position, {}, 0.0)


@given(work, st.lists(groups, min_size=1, max_size=4), st.data())
def test_each_item_is_in_the_sum_once(pins: list[str | None], groups_: list[Group], data: st.DataObject) -> None:
    ledger: Ledger[Group] = Ledger(dict(enumerate(items(pins))))
    queue = WorkQueue(ledger)
    kept: Counter[int] = Counter()
    nobodys: set[int] = set()
    in_vain = 0
    alive = list(groups_)
    while not ledger.complete:
        for position, item in queue.open(alive).items():
            assert not any(group.capacity(item.pin) for group in alive)
            nobodys.add(position)
            ledger.accept(None, {position: report(position)})
        busy = list(alive)
        while busy:
            group = data.draw(st.sampled_from(busy))
            share = queue.take(group)
            assert all(group.capacity(item.pin) for item in share.values())
            if not share:
                busy.remove(group)
                continue
            match data.draw(st.sampled_from(["works", "works", "dies", "works, is kept, and dies"])):
                case "works":
                    group.memory.update(list(share))
                    ledger.accept(group, {position: report(position) for position in share})
                    continue
                case "works, is kept, and dies":
                    group.memory.update(list(share))
                    ledger.accept(group, {position: report(position) for position in share})
                    assert ledger.has_unkept(group)
                    ledger.keep(group)
                    kept += group.memory
                    assert not ledger.has_unkept(group)
                    ledger.lose(group)
                case "dies":
                    in_vain += len(set(share) | set(group.memory))
                    ledger.lose(group)
            assert ledger.lost == in_vain
            busy.remove(group)
            alive.remove(group)
    counted = sum((group.memory for group in alive), kept)
    assert counted == Counter(range(len(pins))) - Counter(nobodys)
    assert [one.index for one in ledger.reports()] == list(range(len(pins)))


@given(st.integers(0, 200), st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_shares_shrink_and_leave_nobody_idle(count: int, sizes: list[int]) -> None:
    """Taking in turns, each group gets something for each of its workers until a fair share is less than that."""
    groups_ = [Group({None: n}) for n in sizes]
    queue = WorkQueue(Ledger[Group](dict(enumerate(items([None] * count)))))
    queue.open(groups_)
    left, shares = count, []
    while left:
        for group in groups_:
            share = queue.take(group)
            assert bool(share) == (left > 0)
            fair = left * group.capacity(None) / sum(sizes)
            assert len(share) >= min(group.capacity(None), fair) or len(share) == left
            shares.append(len(share))
            left -= len(share)
    assert sum(shares) == count
    assert all(queue.take(group) == {} for group in groups_)


def test_what_is_pinned_to_a_group_comes_first() -> None:
    """All of it at once: whoever of the group takes one pin must not wait for those who take another."""
    group, other = Group(dict.fromkeys(PINS, 1)), Group({None: 1})
    queue = WorkQueue(Ledger[Group](dict(enumerate(items([None, "south", None, "north", "south"])))))
    queue.open([group, other])
    assert list(queue.take(group)) == [3, 1, 4, 0]
    assert list(queue.take(other)) == [2]


def test_the_test_set_goes_to_silos_only_where_there_is_nobody_else() -> None:
    """And comes back from them when somebody else is there, whoever of them began with it."""
    chunks = TestChunk.cut(3000)
    north, south, everybody = Group({"north": 1}), Group({"south": 2}), Group({None: 1, "west": 1})
    ledger: Ledger[Group] = Ledger(dict(enumerate(chunks)))
    queue = WorkQueue(ledger)
    assert queue.open([south, north]) == {}
    assert queue.take(south) == {}
    assert [item.pin for item in queue.take(north).values()] == ["north"] * len(chunks)
    ledger.lose(north)
    assert queue.open([south]) == {}
    assert [item.pin for item in queue.take(south).values()] == ["south"] * len(chunks)
    ledger.lose(south)
    assert queue.open([everybody]) == {}
    assert list(queue.take(everybody).values()) == chunks
    ledger.lose(everybody)
    assert list(queue.open([])) == list(range(len(chunks)))
