"""What worker groups take from the queue: each enough to be busy, and what is pinned to it first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.queue import WorkQueue
from fedray.run.evaluation import TestChunk
from tests.cluster.work.groups import PINS, Group, items


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
