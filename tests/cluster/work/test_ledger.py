"""Whatever worker groups take, lose and keep: each item is done once, by somebody who may."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.queue import WorkQueue
from fedray.run.evaluation import TestReport
from fedray.run.worker import Report
from tests.cluster.work.groups import PINS, Group, items

groups = st.builds(Group, st.dictionaries(st.sampled_from(PINS), st.integers(1, 4), min_size=1))
work = st.lists(st.sampled_from(PINS), max_size=30)


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
