"""Updates that workers hold: each is looked at once, with the bits of one process, however many there are and die."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from fedray.aggregators import Aggregator, CenteredClip, GeometricMedian, Krum, Median, MultiKrum, TrimmedMean
from fedray.algorithms import Scaffold
from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work import group as groups
from fedray.cluster.work import worker as workers
from fedray.cluster.work.connections import Connection, Endpoint
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.spawn import Worker
from fedray.cluster.work.worker import Channel, RoundHeader, WorkerActor
from fedray.core.messages import Block, Broadcast
from fedray.core.now import Now
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Job
from tests.helpers import Federation, class_problem, federation

RULES = [Median(), TrimmedMean(0.2), Krum(1), MultiKrum(1), GeometricMedian(), CenteredClip(0.1)]


class Process(Connection):
    """A worker's own code in this process, which does one block for each call, and may die before it answers."""

    def __init__(self, actor: WorkerActor, dies: list[bool]) -> None:
        self.socket, self._far = multiprocessing.Pipe()
        self.actor, self._dies = actor, dies
        every = actor._positions
        actor._positions = lambda count: itertools.islice(every(count), 1)  # type: ignore[method-assign]

    def send(self, header: RoundHeader, packed: bytes) -> None:
        answer = self.actor.work(header, packed)
        if self._dies and self._dies.pop(0):
            self._far.close()
        else:
            self._far.send(answer)

    def close(self) -> None:
        if not self.socket.closed:
            super().close()
            self._far.close()
            self.actor._listener.close()
            self.actor._worker.close()
            self.actor._tickets.close()


class Spawner:
    """Starts them; the first of a rank dies when ``dies`` says so, by the number of the call."""

    def __init__(self, job: Job, dies: dict[int, list[bool]], tickets: Handle, down: Handle) -> None:
        self._job, self._tickets, self._down, self._dies = job, tickets, down, dies
        self._processes: dict[int, Process] = {}

    def start(self, worker: Worker) -> None:
        channel = Channel(Endpoint(), self._tickets, worker.rank, 0, self._down, worker.accumulator.handle)
        actor = WorkerActor(self._job, channel, f"n/{worker.rank}", 0)
        self._processes[worker.rank] = Process(actor, self._dies.pop(worker.rank, []))

    def up(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        return list(workers)

    def connect(self, worker: Worker) -> Process:
        return self._processes[worker.rank]

    def kill(self, worker: Worker) -> None:
        self._processes.pop(worker.rank).close()

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a worker does to its process it does not do to this one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(workers, "_let_others_finish", lambda: None)
    monkeypatch.setattr(workers, "_keep_freed_memory", lambda: None)
    monkeypatch.setattr(groups, "_PATIENCE", 0.0)
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
