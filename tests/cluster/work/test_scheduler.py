"""Scheduling on worker groups: whatever they do, each item is in the sum once, with fake groups and real threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.scheduler import Scheduler
from fedray.core.errors import RunFailed
from fedray.run.evaluation import HoldoutChunk, TestReport
from fedray.run.worker import Item, Report


class Gone(Exception):
    """A group is lost."""


@dataclass(eq=False)
class Group:
    """A fake group: what lies in its memory, and how many calls it lives to answer."""

    pins: frozenset[str | None] = frozenset([None])
    calls: int = 10**6
    memory: Counter[int] = field(default_factory=Counter)
    before: Callable[[], object] = lambda: None

    def capacity(self, pin: str | None) -> int:
        """Two workers."""
        return 2 * (pin in self.pins)

    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        """Do all of it, or die of it."""
        self.before()
        if stopping():
            return None
        self.calls -= 1
        if self.calls < 0:
            raise Gone
        self.memory.update(list(items))
        return {position: TestReport(position, {}, 0.0) for position in items}


def ledger(*pins: str | None) -> Ledger[Group]:
    return Ledger({i: HoldoutChunk(i, np.zeros(0, dtype=np.int64), pin) for i, pin in enumerate(pins)})


def nobody(item: Item) -> Report:
    return TestReport(-1, {}, 0.0)


@given(
    st.lists(st.sampled_from([None, "north"]), min_size=1, max_size=30),
    st.lists(st.tuples(st.sampled_from([(None,), ("north",), (None, "north")]), st.integers(0, 3)), max_size=4),
)
def test_each_item_is_in_the_memory_of_a_group_that_is_alive(
    pins: list[str | None], mortal: list[tuple[tuple[str | None, ...], int]]
) -> None:
    """Somebody who does everything but the north's lives on."""
    groups = [Group(), *(Group(frozenset(its), calls) for its, calls in mortal)]
    work, scheduler = ledger(*pins), Scheduler(Gone)
    done = scheduler.run(
        work,
        lambda: list(groups),
        nobody,
        lambda ledger: None,
        lambda group, error: groups.remove(group),
        lambda: False,
    )
    scheduler.close()
    assert done
    counted = sum((group.memory for group in groups), Counter[int]())
    left = {i for i, report in enumerate(work.reports()) if report.index < 0}
    assert {pins[i] for i in left} <= {"north"}
    assert counted == Counter(set(range(len(pins))) - left)


def test_what_was_fetched_outlives_its_group() -> None:
    """A group that dies after its sum was fetched takes nothing with it."""
    first, second = Group(), Group()
    groups, fetched = [first, second], Counter[int]()
    work, scheduler = ledger(*[None] * 8), Scheduler(Gone)

    def fetch(ledger: Ledger[Group]) -> None:
        for group in groups:
            if ledger.has_unkept(group):
                fetched.update(group.memory)
                ledger.keep(group)
        ledger.lose(first)

    assert scheduler.run(work, lambda: groups, nobody, fetch, lambda group, error: None, lambda: False)
    scheduler.close()
    assert fetched == Counter(range(8))
    assert work.lost == 0


def test_a_failure_of_one_group_stops_the_others_and_is_raised() -> None:
    began = Event()

    def fail() -> None:
        began.wait(60)
        raise RunFailed("by hand")

    def wait_for_the_other() -> None:
        began.set()

    groups = [Group(before=wait_for_the_other), Group(before=fail)]
    work, scheduler = ledger(*[None] * 50), Scheduler(Gone)
    with pytest.raises(RunFailed, match="by hand"):
        scheduler.run(work, lambda: groups, nobody, lambda ledger: None, lambda group, error: None, lambda: False)
    scheduler.close()
    assert not work.complete


def test_who_is_stopped_leaves_the_work() -> None:
    stop: list[bool] = []
    work, scheduler = ledger(*[None] * 9), Scheduler(Gone)
    group = Group(before=lambda: stop.append(True))
    assert not scheduler.run(
        work, lambda: [group], nobody, lambda ledger: None, lambda group, error: None, lambda: bool(stop)
    )
    scheduler.close()
    assert not work.complete
    assert group.memory == Counter()
