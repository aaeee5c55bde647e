"""The executor: work items done by workers, in this process or elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.core.draws import alone
from fedray.core.messages import Broadcast
from fedray.run.profiling import Tracer
from fedray.run.usage import Meter, Reading, Usage
from fedray.run.worker import Item, Job, Report, Worker
from fedray.rundir.held_rows import HeldRows, RowMemory
from fedray.rundir.worker_log import copied

_NAME = "inline/0"


class Executor(Protocol):
    """The executor of work items, one round at a time.

    A round is ``publish``, one ``run``, and ``collect`` if there were blocks; results must not depend on the number
    of workers.
    """

    @property
    def workers(self) -> int:
        """The number of workers that took part in the last round."""

    def wait(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Return when there is a worker, or ``stopping`` says so; RunFailed if there can be none."""

    def global_vector(self, size: int) -> Tensor:
        """Return memory for the global vector ``[size]``, which ``publish`` need not copy where workers share it."""

    def publish(self, down: Broadcast) -> None:
        """Make a broadcast known to all workers; they begin the round."""

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Do all items, handing them out in the order given.

        Args:
            items: the round's work.
            stopping: asked between items; once true, no further item is begun.

        Returns:
            One report for each item, in any order; None if stopped.
        """

    def collect(self) -> Mapping[str, Tensor]:
        """Return what all workers have folded since ``publish``: merged, or, if it is no sum, rows.

        Rows may stay where they lie until they are read, before the next ``publish``.

        Raises:
            RowsLost: some are gone, here or when they are read; the round is to be done again.
        """

    def usage(self) -> Usage:
        """Return what the last round took on the machines, from ``publish`` to ``collect``."""

    def hold(self) -> HeldRows | None:
        """Return memory where workers leave rows of client state from now on, for a store in this process; None: none.

        Without this call, and where there is none, they write all rows to files.
        """

    def close(self) -> None:
        """Release whatever was started."""


class InlineExecutor:
    """The executor in this process, one item after the other: for pdb, tests, and one worker's GPUs."""

    workers = 1

    def __init__(self, job: Job, devices: Sequence[torch.device] = (torch.device("cpu"),)) -> None:
        self._threads = torch.get_num_threads()
        self._gpus = float(sum(device.type == "cuda" for device in devices))
        with contextlib.ExitStack() as opened:
            opened.enter_context(alone())
            self._worker = Worker(job, devices)
            self._open = opened.pop_all()
        self._meter = Meter(devices)
        self._tracer = Tracer(job.profile, "driver")
        self._reading = Reading(_NAME)

    def wait(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Return at once: this process is ready."""

    def global_vector(self, size: int) -> Tensor:
        """Return memory on the device where updates are folded."""
        return torch.zeros(size, device=self._worker.device)

    def publish(self, down: Broadcast) -> None:
        """Begin the round."""
        self._tracer.enter(down.round)
        self._worker.begin(down)

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Do the items in order."""
        reports: list[Report] = []
        started = time.perf_counter()
        with copied(self._worker.job.said, _NAME):
            for item in items:
                if stopping():
                    return None
                reports.append(self._worker.handle(item))
        self._reading = self._meter.read(_NAME, time.perf_counter() - started)
        return reports

    def collect(self) -> Accumulator:
        """Return the worker's accumulator."""
        return self._worker.finish()

    def usage(self) -> Usage:
        """Return the usage of this process."""
        return Usage((self._reading,), gpus=self._gpus)

    def hold(self) -> HeldRows | None:
        """Return memory of this process."""
        if not self._worker.rows.size:
            return None
        memory = RowMemory.of(self._worker.rows.sizes)
        self._worker.hold(memory)
        return HeldRows(memory)

    def close(self) -> None:
        """Give the process its thread count back, and other threads the right to train."""
        self._tracer.close()
        self._worker.close()
        torch.set_num_threads(self._threads)
        self._open.close()
