"""Updates that workers hold: each is looked at once, with the bits of one process, however many there are and die."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from fedray.aggregators import Aggregator, CenteredClip, GeometricMedian, Krum, Median, MultiKrum, TrimmedMean
from fedray.algorithms import Scaffold
from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.worker import RoundHeader
from fedray.core.messages import Block, Broadcast
from fedray.core.now import Now
from fedray.run.executor import InlineExecutor
from tests.cluster.work.within import Spawner, keep_this_process_as_it_is
from tests.helpers import Federation, class_problem, federation

RULES = [Median(), TrimmedMean(0.2), Krum(1), MultiKrum(1), GeometricMedian(), CenteredClip(0.1)]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    keep_this_process_as_it_is(monkeypatch)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def rounds_of(one: Federation) -> tuple[list[Block], float]:
    cohort = one.plan.cohort(1)
    return one.plan.blocks(1, cohort, one.state.store), one.plan.weight(cohort)


def inline(one: Federation) -> dict[str, torch.Tensor]:
    """What one process makes of the round."""
    items, weight = rounds_of(one)
    executor = InlineExecutor(one.job)
    executor.publish(Broadcast(1, broadcast(one), weight))
    executor.run(items, lambda: False)
    found = finished(one, executor.collect())
    executor.close()
    return found


def broadcast(one: Federation) -> dict[str, torch.Tensor]:
    widths = one.job.algorithm.broadcast_widths(one.job.task.layout)
    return {name: one.vector if name == "model" else torch.zeros(width) for name, width in widths.items()}


def finished(one: Federation, total: object) -> dict[str, torch.Tensor]:
    rule = one.plan.algorithm.aggregator
    now = Now(1, 1, state=one.plan.initial_kept("cpu"))
    return rule.finish(total, 1.0, 1.0, 9, now).parts  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.one_in(3)
def test_however_many_workers_and_whoever_dies(rule: Aggregator, tmp_path: Path) -> None:
    sizes = (7, 3, 12, 9, 1, 5, 8, 2, 6)
    one = federation(class_problem(sizes), tmp_path, Scaffold(), aggregator=rule, stack=2)
    expected, (items, weight) = inline(one), rounds_of(one)
    fates: list[dict[int, list[bool]]] = [{}, {0: [False, True]}, {1: [True], 2: [False, True]}]
    for count, dies in [(1, {}), (1, {0: [False, False, True]}), (2, fates[1]), (3, {}), (3, fates[2])]:
        asked = {rank: list(calls) for rank, calls in dies.items()}
        spec, starts = GroupSpec("id", "n", [Slot(Size())] * count), partial(Spawner, one.job, asked)
        group = WorkerGroup(one.job, spec, starts)
        try:
            for number in (1, 2):  # the second finds what the first has left
                group.begin(RoundHeader(number, 1, weight), broadcast(one))
                reports = group.work(dict(enumerate(items)), lambda: False)
                assert sorted(reports or {}) == list(range(len(items)))
                total = group.collect()
                assert sorted(total.clients.tolist()) == list(range(len(sizes)))  # type: ignore[attr-defined]
                got = finished(one, total)
                assert all(torch.equal(got[name], part) for name, part in expected.items()), (count, dies)
        finally:
            group.close()
        assert not any(asked.values()), "everybody died who was to"
