"""The worker actor: a :class:`fedray.run.worker.Worker` in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.aggregators.gathered import taken
from fedray.cluster.place.reservation import own_gpus
from fedray.cluster.work.collective import RankSpec
from fedray.cluster.work.connections import Endpoint, serve
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.pinning import pin
from fedray.cluster.work.ranks import LeadingRank
from fedray.cluster.work.rows import Held, RowHandle, RowWriter
from fedray.cluster.work.state import StateHandle
from fedray.cluster.work.tickets import TicketQueue
from fedray.core import inject
from fedray.core.collector import collector_off
from fedray.core.messages import Broadcast, Floats, Ints
from fedray.optim import TorchOptimizer
from fedray.run.profiling import Tracer
from fedray.run.usage import Meter
from fedray.run.worker import Item, Job, Report, Worker, devices_of
from fedray.rundir.worker_log import redirect

Arrays = dict[str, NDArray[Any]]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Channel:
    """The ways between a worker and its group.

    Args:
        endpoint: the address at which the worker listens.
        tickets: memory of the group's ticket queues.
        rank: the worker's number in the group.
        queue: the ticket queue it takes from.
        down: memory of the broadcast.
        up: memory of what the worker folds: a sum, or, where it is none, rows.
        first: the first of the worker's ranks, which is this process; None: it has no others.
        state: memory of rows of client state; None: all of them are in files.
    """

    endpoint: Endpoint
    tickets: Handle
    rank: int
    queue: int
    down: Handle
    up: Handle | RowHandle
    first: RankSpec | None = None
    state: StateHandle | None = None


@dataclass(frozen=True)
class RoundHeader:
    """The start of a round, without its vectors.

    Args:
        number: of the broadcast.
        round: of the run.
        weight: total planned weight of the cohort.
        take: counts the accumulators of the round, as what was fetched is not folded on.
    """

    number: int
    round: int
    weight: float
    take: int = 0


class WorkerActor:
    """The actor of one worker process; Ray pins it, this class only forwards.

    Args:
        job: the run's work.
        channel: the way by which the group reaches it.
        name: its name, ``node1/0``.
        gpus: the number of GPUs that Ray assigned.
    """

    def __init__(self, job: Job, channel: Channel, name: str, gpus: float) -> None:
        own_gpus(gpus)
        if job.said is not None:
            redirect(job.said, name)
        _let_others_finish()
        libc = _keep_freed_memory()
        if not isinstance(job.task.optimizer_fn, TorchOptimizer):
            # The first optimizer of a process imports torch's compiler, which takes seconds on a busy machine: before
            # the worker is up, and not while the deadline of its first block runs.
            with collector_off():
                torch.optim.SGD([torch.zeros(1)], lr=0.1)
        self._leading = None if channel.first is None else LeadingRank(job, channel.first, gpus)
        self._worker = Worker(job, devices_of(gpus)) if self._leading is None else self._leading
        if libc is not None:
            libc.malloc_trim(0)
        if channel.state is not None:
            self._worker.hold(channel.state.open())
        self._down = channel.down.open()
        up = channel.up.open()
        self._rows = up if isinstance(up, RowWriter) else None
        self._up = None if isinstance(up, RowWriter) else up
        self._clients: list[Ints] = []
        self._weight: list[Floats] = []
        if gpus:
            for buffer in (self._down, self._up):
                pin(buffer or {})
        self._aggregator = job.algorithm.aggregator
        self._tickets = TicketQueue(channel.tickets, channel.rank, channel.queue)
        self._folds_in_place = self._up is not None and gpus == 0 and self._leading is None
        self._name = name
        self._meter = Meter(devices_of(gpus))
        self._tracer = Tracer(job.profile, name)
        self._begun: RoundHeader | None = None
        self._listener = channel.endpoint.listen()

    def ready(self) -> bool:
        """Answer once the process is up."""
        return True

    def serve(self) -> None:
        """Take work from the group until it hangs up."""
        serve(self._listener, self.work)

    def work(self, header: RoundHeader, packed: bytes) -> bytes:
        """Do the items whose ticket this worker takes; the first call begins the round.

        Args:
            header: of the round.
            packed: the pickled list of items.

        Returns:
            Pickled: the report of each item that was done, by its position in the list; the form of the sum, or the
            :class:`~fedray.cluster.work.rows.Held` rows, where what is folded is none; and a
            :class:`fedray.run.usage.Reading`.
        """
        items: list[Item] = pickle.loads(packed)
        broadcast = Broadcast(header.round, self._down, header.weight)
        self._tracer.enter(header.round)
        if header != self._begun:
            self._begin(broadcast)
            self._begun = header
        reports: dict[int, Report] = {i: self._done(items[i]) for i in self._positions(len(items))}
        inject.point("worker.reply", header.round)
        self._tracer.leave(header.round)
        reading = self._meter.read(self._name, sum(report.seconds for report in reports.values()))
        held = self._hand_over()
        return pickle.dumps((reports, held, reading if self._leading is None else self._leading.read(reading)))

    def _positions(self, count: int) -> Iterator[int]:
        while (position := self._tickets.take()) < count:
            yield position

    def _done(self, item: Item) -> Report:
        report = self._worker.handle(item)
        if self._rows is not None:
            # One block at a time: what this process holds does not grow with the cohort.
            clients, weight, parts = taken(self._worker.finish())
            self._rows.append(parts)
            self._clients.append(clients)
            self._weight.append(weight)
        return report

    def _begin(self, broadcast: Broadcast) -> None:
        if self._rows is not None:
            self._rows.rewind()
        into = None
        if self._folds_in_place:
            assert self._up is not None
            into = self._aggregator.clear(self._up)
        self._worker.begin(broadcast, into)

    def _hand_over(self) -> Any:
        if self._rows is not None:
            clients = np.concatenate([*self._clients, np.zeros(0, dtype=np.int64)])
            weight = np.concatenate([*self._weight, np.zeros(0)])
            self._clients, self._weight = [], []  # what was told of is not told of again
            return Held(self._rows.count - len(clients), clients, weight)
        if self._folds_in_place:
            return self._aggregator.form(self._worker.finish())
        if self._up is not None:
            self._worker.put(self._up)
        return None


def _let_others_finish() -> None:
    """Keep this process from taking the processor of the one that wakes it, which has others to wake.

    That one is the driver, which then waits: under Linux's policy for batch work it keeps the rest of that millisecond.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _keep_freed_memory() -> ctypes.CDLL | None:
    """Let glibc keep freed buffers: returned to the system, they cost a page fault for each page of each step."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        return libc
    except (OSError, AttributeError):
        return None  # another C library, which has its own ways
