"""Worker groups whose processes are objects of the test's own, with a worker's own code: real work, real deaths."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest

from fedray.cluster.place.placement import GroupSpec, Node
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work import executor, group, nodes, worker
from fedray.cluster.work.connections import Connection, Endpoint
from fedray.cluster.work.executor import RayExecutor
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.spawn import Worker
from fedray.cluster.work.worker import Channel, RoundHeader, WorkerActor
from fedray.run.worker import Job

Deaths = Mapping[int, Sequence[bool]]
"""By rank: whether its process, or the one in its place, dies before it answers the first call, the second, ..."""


class Process(Connection):
    """A worker's own code in this process, which does one item for each call, and may die before it answers."""

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
    """Starts them; ``dies`` loses what has been used up."""

    def __init__(self, job: Job, dies: dict[int, list[bool]], tickets: Handle, down: Handle) -> None:
        self._job, self._tickets, self._down, self._dies = job, tickets, down, dies
        self._processes: dict[int, Process] = {}

    def start(self, worker: Worker) -> None:
        up, state = worker.accumulator.handle, worker.state
        channel = Channel(Endpoint(), self._tickets, worker.rank, 0, self._down, up, state=state)
        actor = WorkerActor(self._job, channel, f"n/{worker.rank}", 0)
        self._processes[worker.rank] = Process(actor, self._dies.get(worker.rank, []))

    def up(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        return list(workers)

    def connect(self, worker: Worker) -> Process:
        return self._processes[worker.rank]

    def check(self) -> None:
        pass

    def kill(self, worker: Worker) -> None:
        self._processes.pop(worker.rank).close()

    def close(self) -> None:
        pass


class _Starter:
    """One node, this one."""

    here = "0"

    def __init__(self, dies: Deaths, job: Job, *_: object) -> None:
        self._job, self._dies = job, {rank: list(calls) for rank, calls in dies.items()}

    def alive(self) -> list[Node]:
        return [Node("0", "n", {"CPU": 4.0})]

    def own(self, spec: GroupSpec) -> WorkerGroup:
        return WorkerGroup(self._job, spec, partial(Spawner, self._job, self._dies), holds=True)


def keep_this_process_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker does to its process it does not do to this one; and nobody is waited for."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(worker, "_let_others_finish", lambda: None)
    monkeypatch.setattr(worker, "_keep_freed_memory", lambda: None)
    monkeypatch.setattr(group, "_PATIENCE", 0.0)
    monkeypatch.setattr(nodes, "_WATCH", 10**6)


def workers_within(
    monkeypatch: pytest.MonkeyPatch, count: int, dies: Deaths | None = None
) -> Callable[[Job], RayExecutor]:
    """Return the maker of an executor over so many workers in this process, some of which die."""
    keep_this_process_as_it_is(monkeypatch)

    def make(job: Job) -> RayExecutor:
        monkeypatch.setattr(executor, "_RayStarter", partial(_Starter, dies or {}))
        return RayExecutor(job, WorkerArgs(workers=count))

    return make
