"""The queue that the worker processes of a node share: numbers in shared memory, each taken once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

import torch

from fedray.cluster.work.memory import Buffer, Descriptor, Handle, mapped


class TicketQueue:
    """The next number of each queue, and the number that each worker is at.

    Whoever takes a number does the work item of that number.  Handing out work so costs microseconds, a call to an
    actor half a millisecond.  The lock is the kernel's, so it is free again when its holder dies.

    Args:
        handle: of the memory, made by :meth:`buffer`.
        rank: the worker that takes numbers; ``None`` for who hands out.
        queue: the queue that it takes from.
    """

    def __init__(self, handle: Handle, rank: int | None = None, queue: int = 0) -> None:
        self._file = Descriptor(os.open(handle.path, os.O_RDWR))
        # Numbers are read and written one by one, for each item: a call of numpy costs less than one of torch.
        shared = mapped(self._file.fileno(), torch.int64, handle.widths)
        self._shared = {name: numbers.numpy() for name, numbers in shared.items()}
        self._rank, self._queue = rank, queue

    @staticmethod
    def buffer(workers: int, queues: int = 1) -> Buffer:
        """Make the memory for so many workers and queues."""
        return Buffer({"next": queues, "item": workers, "since": workers}, torch.int64)

    def take(self) -> int:
        """Take the next number; from now on this worker is at it."""
        with self._locked():
            number = int(self._shared["next"][self._queue])
            self._shared["next"][self._queue] += 1
            self._shared["since"][self._rank] = time.monotonic_ns()
            self._shared["item"][self._rank] = number
        return number

    def open(self) -> None:
        """Hand out numbers from 0 on; nobody is at anything."""
        with self._locked():
            self._shared["since"].fill(time.monotonic_ns())
            self._shared["item"].fill(-1)
            self._shared["next"].fill(0)

    def taken(self, queue: int = 0) -> int:
        """Return how many numbers of a queue have been taken, those included for which there was no work."""
        return int(self._shared["next"][queue])

    def end(self) -> None:
        """Hand out no more work."""
        with self._locked():
            self._shared["next"].fill(1 << 62)

    def at(self, rank: int) -> tuple[int, float]:
        """Return the number a worker took last (-1: none), and how many seconds ago (since :meth:`open`, if none)."""
        # Without the lock, which a worker that was stopped may hold: it may go on between two looks.
        while True:
            item, since, still = (int(self._shared[name][rank]) for name in ("item", "since", "item"))
            if item == still:
                return item, (time.monotonic_ns() - since) / 1e9

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the memory."""
        self._file.close()
