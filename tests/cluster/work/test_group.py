"""A worker group: what it counts, whom it blames, what it does again and does without, with fake processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.place.placement import Size, Slot
from fedray.cluster.work import group as groups
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.connections import WorkerDied
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.worker import RoundHeader
from fedray.core.errors import RunFailed
from fedray.core.messages import Block, BlockReport, Failure
from fedray.run.evaluation import HoldoutChunk, TestChunk
from fedray.run.worker import Item, Job
from tests import helpers
from tests.cluster.work.fakes import FakeProcess, fake_group

ITEMS: dict[int, Item] = dict(enumerate(TestChunk.cut(3000)[:2]))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Some work."""
    return helpers.federation(helpers.class_problem(), tmp_path_factory.mktemp("job")).job


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_PATIENCE", 0.0)


def begin(group: WorkerGroup, number: int, take: int = 0) -> None:
    group.begin(RoundHeader(number, number, 1.0, take), group.down.tensors)


def cpu_seconds(group: WorkerGroup) -> float:
    return sum(reading.cpu_seconds for reading in group.readings())


def blocks(count: int) -> dict[int, Item]:
    """Blocks of one client each."""
    return {i: Block(1, i, np.array([i]), None) for i in range(count)}  # type: ignore[arg-type]


def test_what_a_round_took_is_counted_over_all_its_takes(job: Job) -> None:
    """When a node is lost the others begin a new take, and what they did in the first was done all the same."""
    group, _ = fake_group(job, behave={0: [FakeProcess.begin_and_hang]})
    begin(group, 1)
    assert sorted(group.work(ITEMS, lambda: False) or {}) == [0, 1]
    assert (cpu_seconds(group), group.retries) == (1.0, 1)
    begin(group, 1, take=1)
    assert sorted(group.work({7: ITEMS[0]}, lambda: False) or {}) == [7]
    assert (cpu_seconds(group), group.retries) == (2.0, 1)
    begin(group, 2)
    assert (cpu_seconds(group), group.retries) == (0.0, 0)
    group.close()


def test_a_late_worker_is_blamed_for_what_it_was_late_with(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it goes on to the next item before it is replaced."""
    group, spawner = fake_group(job, behave={0: [FakeProcess.begin_and_hang]})
    late = spawner.processes[0]
    real = group._tickets.at

    def at_and_on(rank: int) -> tuple[int, float]:
        found = real(rank)
        if spawner.processes[rank] is late:
            late.take()
        return found

    monkeypatch.setattr(group._tickets, "at", at_and_on)
    begin(group, 1)
    assert sorted(group.work(ITEMS, lambda: False) or {}) == [0, 1]
    assert dict(group._ledger._losses) == {0: 1}
    group.close()


def test_a_group_of_which_a_node_is_gone_is_lost_while_it_works_and_while_it_starts(job: Job) -> None:
    """Though its worker is silent, or could be started again for ever: none is blamed, or replaced."""
    group, spawner = fake_group(job)
    spawner.processes[0].asked = FakeProcess.take
    begin(group, 1)

    def leaves() -> bool:
        spawner.gone = "node m left the cluster"
        return False

    with pytest.raises(GroupLost, match="node m left"):
        group.work(ITEMS, leaves)
    assert (spawner.started, dict(group._ledger._losses)) == ([0], {})
    group.abandon()
    assert spawner.closed

    late, spawner = fake_group(job)
    spawner.up = lambda workers, seconds: []  # type: ignore[method-assign]
    spawner.gone = "node m left the cluster"
    with pytest.raises(GroupLost, match="node m left"):
        late.wait()
    late.abandon()


def test_who_has_answered_is_not_late(job: Job) -> None:
    """However long the answer of another took to read."""
    group, spawner = fake_group(job, [Slot(Size())] * 2)
    first, second = spawner.processes[0], spawner.processes[1]
    second.asked = FakeProcess.take

    def meanwhile() -> None:
        second.do_all()
        second.hang()

    first.asked, first.read = FakeProcess.answer, meanwhile
    begin(group, 1)
    assert sorted(group.work(ITEMS, lambda: False) or {}) == [0, 1]
    assert (spawner.started, group.retries) == ([0, 1], 0)
    group.close()


def test_an_item_that_two_workers_die_of_is_given_up(job: Job) -> None:
    group, spawner = fake_group(job, behave={0: [FakeProcess.begin_and_die, FakeProcess.begin_and_die]})
    begin(group, 1)
    reports = group.work(blocks(3), lambda: False)
    assert reports is not None
    given_up = reports[0]
    assert isinstance(given_up, BlockReport)
    assert [(one.client, one.stage) for one in given_up.failures] == [(0, "worker")]
    assert "two workers were lost at its block" in given_up.failures[0].error
    assert sorted(reports) == [0, 1, 2]
    assert spawner.started == [0, 0, 0]
    group.close()


def test_what_a_lost_worker_may_have_begun_is_done_again_without_places_in_memory(job: Job) -> None:
    """It may be slow to die, and write to the places that it was given until then."""
    group, spawner = fake_group(job, behave={0: [FakeProcess.begin_and_die]})
    begin(group, 1)
    given = [replace(item, room=np.arange(5)) for item in blocks(3).values() if isinstance(item, Block)]
    assert sorted(group.work(dict(enumerate(given)), lambda: False) or {}) == [0, 1, 2]
    assert [len(item.room) for item in spawner.processes[0].items if isinstance(item, Block)] == [0, 0, 0]
    assert [len(item.room) for item in given] == [5, 5, 5]
    begin(group, 2)
    group.work(dict(enumerate(given)), lambda: False)
    assert [len(item.room) for item in spawner.processes[0].items if isinstance(item, Block)] == [5, 5, 5]
    group.close()


def test_a_client_for_whose_error_a_worker_ended_fails_at_once_and_the_others_are_done(job: Job) -> None:
    """With the stage, the words and the traceback of its error; one worker is started in the place of that one."""
    failure = Failure(1, "b", 1, "train", "ValueError: a bad row", "Traceback ...")

    def end_at_the_second(process: FakeProcess) -> None:
        process.take()
        process.take()
        process._far.send(WorkerDied("rank 1: ValueError: a bad row", failure))

    group, spawner = fake_group(job, behave={0: [end_at_the_second]})
    begin(group, 1)
    reports = group.work(blocks(3), lambda: False)
    assert reports is not None
    assert sorted(reports) == [0, 1, 2]
    (found,) = [one for report in reports.values() if isinstance(report, BlockReport) for one in report.failures]
    assert (found.client, found.stage, found.error, found.trace) == (1, "train", failure.error, failure.trace)
    assert spawner.started == [0, 0]
    assert group.retries == 1, "the first block, which had been folded by that worker"
    group.close()


def test_the_evaluation_is_not_given_up(job: Job) -> None:
    group, _ = fake_group(job, behave={0: [FakeProcess.begin_and_die] * 2})
    begin(group, 1)
    with pytest.raises(RunFailed, match="two workers died of the evaluation"):
        group.work(ITEMS, lambda: False)
    group.close()


def test_workers_that_die_of_nothing_again_and_again_end_the_run(job: Job) -> None:
    group, spawner = fake_group(job, behave={0: [lambda process: process._far.close()] * 9})
    begin(group, 1)
    with pytest.raises(RunFailed, match="workers died 3 times at the same work"):
        group.work(ITEMS, lambda: False)
    assert spawner.started == [0] * 4
    group.close()


@given(st.data())
def test_whoever_dies_each_item_is_reported_by_who_folded_it(job: Job, data: st.DataObject) -> None:
    """What is in the accumulators at the end, and was not given up, is each item once."""
    workers, count = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    folded: dict[FakeProcess, list[int]] = {}

    def behave(process: FakeProcess) -> None:
        plan = data.draw(st.sampled_from(["all", "all", "all", "begin and die", "die after all"]))
        while process.take():
            if plan == "begin and die":
                process._far.close()
                return
        if plan == "die after all":
            process._far.close()
            return
        mine = [process.items[i] for i in process._taken if i < len(process.items)]
        folded.setdefault(process, []).extend(item.index for item in mine)
        process.answer()

    group, spawner = fake_group(job, [Slot(Size())] * workers, {rank: [behave] * 99 for rank in range(workers)})
    begin(group, 1)
    try:
        reports = group.work(blocks(count), lambda: False)
    except RunFailed:  # they died of nothing three times in a row
        group.close()
        return
    assert reports is not None
    lost = {p for p, report in reports.items() if isinstance(report, BlockReport) and report.failures}
    alive = [index for process in spawner.processes.values() for index in folded.get(process, [])]
    assert sorted([*alive, *lost]) == list(range(count))
    assert sorted(reports) == list(range(count))
    group.close()


NODES = Slot(Size(), frozenset([None, "alpha"]))
OWN = Slot(Size(2.0), frozenset(["gamma"]))


def pinned(*pins: str | None) -> dict[int, Item]:
    return {i: HoldoutChunk(i, np.zeros(0, dtype=np.int64), pin) for i, pin in enumerate(pins)}


def test_a_silos_own_worker_that_cannot_start_is_done_without(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """Its node goes on; what only it may do is left to whoever asked."""
    group, _ = fake_group(job, [NODES, OWN], cannot={1: "no such device"})
    assert group.pins == {None, "alpha", "gamma"}
    begin(group, 1)
    assert sorted(group.work(pinned(None, "gamma", "alpha"), lambda: False) or {}) == [0, 2]
    assert group.pins == {None, "alpha"}
    assert (group.ranks, group.capacity("gamma")) == ([0], 0)
    assert caplog.text.count("silo 'gamma' is without its own worker, of 2 CPUs and 0 GPUs: a worker could not") == 1
    group.wait()
    group.close()


@pytest.mark.parametrize(("slots", "rank"), [([NODES, OWN], 0), ([OWN], 0)])
def test_a_worker_of_the_node_and_the_last_one_are_missed(job: Job, slots: Sequence[Slot], rank: int) -> None:
    group, _ = fake_group(job, slots, cannot={rank: "no such device"})
    with pytest.raises(RunFailed, match="a worker could not start on node n: no such device"):
        group.wait()
    group.close()


def test_rows_outlive_the_worker_that_handed_them_over(tmp_path: Path) -> None:
    """Where what is folded is no sum."""
    from fedray.aggregators import Median

    robust = helpers.federation(helpers.class_problem(), tmp_path, aggregator=Median()).job
    group, spawner = fake_group(robust, behave={0: [FakeProcess.do_all, FakeProcess.begin_and_die]})
    begin(group, 1)
    assert sorted(group.work(blocks(2), lambda: False) or {}) == [0, 1]
    spawner.processes[0].asked = FakeProcess.begin_and_die
    assert sorted(group.work({2: blocks(3)[2]}, lambda: False) or {}) == [2]
    assert group.retries == 1
    group.close()


def test_a_group_that_is_closed_leaves_nothing(job: Job) -> None:
    group, spawner = fake_group(job, [Slot(Size())] * 2)
    assert group.up == 0
    group.wait()
    assert group.up == 2
    for _ in range(2):
        group.close()
    assert (spawner.processes, spawner.closed) == ({}, True)


def test_a_stop_is_heard_while_no_worker_is_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    group, spawner = fake_group(job)
    monkeypatch.setattr(spawner, "up", lambda workers, seconds: ())
    asked = iter([False, False, True])
    group.wait(lambda: next(asked))
    assert list(asked) == []
    group.close()
