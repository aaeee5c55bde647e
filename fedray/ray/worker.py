"""The worker actor: a :class:`fedray.worker.Worker` in a process of its own."""

from __future__ import annotations

import ctypes
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Listener
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.messages import Broadcast
from fedray.ray.lines import Door, serve
from fedray.ray.memory import Handle, Tickets
from fedray.worker import Item, Job, Report, Worker

Arrays = dict[str, NDArray[Any]]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Channel:
    """How a worker exchanges vectors with the driver.

    Args:
        down: the broadcast's buffer; ``None``: it comes as arrays from the object store.
        up: this worker's accumulator slot; ``None``: it is returned by ``finish``.
        tickets: the counter by which workers share out work; ``None``: a call names the items to do.
        door: where to listen for work; ``None``: it comes as calls of the actor.
    """

    down: Handle | None = None
    up: Handle | None = None
    tickets: Handle | None = None
    door: Door | None = None


@dataclass(frozen=True)
class Announcement:
    """The start of a round, without its vectors."""

    number: int
    round: int
    weight: float


class WorkerActor:
    """One worker process; Ray pins it, this class only forwards.

    Args:
        job: the run's work.
        channel: how vectors travel.
        gpu: use the GPU that Ray assigned.
    """

    def __init__(self, job: Job, channel: Channel, gpu: bool) -> None:
        _keep_freed_memory()
        self._worker = Worker(job, torch.device("cuda" if gpu else "cpu"))
        self._down = channel.down.open() if channel.down else None
        self._up = channel.up.open() if channel.up else None
        self._tickets = Tickets(channel.tickets.path) if channel.tickets else None
        self._folds_in_place = self._up is not None and not gpu
        self._number = -1
        door = channel.door
        self._listener = Listener(door.address, "AF_UNIX", authkey=door.key) if door else None

    def ready(self) -> bool:
        """Answers once the process is up."""
        return True

    def serve(self) -> None:
        """Take work from the driver's socket until it hangs up."""
        assert self._listener is not None
        serve(self._listener, self.work)

    def work(self, start: Announcement, packed: bytes, arrays: Mapping[str, NDArray[np.float32]] | None) -> bytes:
        """Do items of a round, all of them or those whose ticket this worker takes; the first call begins the round.

        Args:
            start: the round.
            packed: the pickled list of items.
            arrays: the broadcast, if it does not come through shared memory.

        Returns:
            The pickled report of each item that was done, by its position in the list.
        """
        items: list[Item] = pickle.loads(packed)
        if start.number != self._number:
            self._begin(start, arrays)
        reports: dict[int, Report] = {i: self._worker.handle(items[i]) for i in self._positions(len(items))}
        if self._up is not None and not self._folds_in_place:
            for name, slot in self._up.items():
                slot.copy_(self._worker.finish()[name])
        return pickle.dumps(reports)

    def _positions(self, count: int) -> Iterator[int]:
        if self._tickets is None:
            yield from range(count)
            return
        while (position := self._tickets.take()) < count:
            yield position

    def _begin(self, start: Announcement, arrays: Mapping[str, NDArray[np.float32]] | None) -> None:
        parts = self._down
        if parts is None:
            assert arrays is not None
            parts = {name: _read_only_tensor(array) for name, array in arrays.items()}
        if self._folds_in_place:
            assert self._up is not None
            for slot in self._up.values():
                slot.zero_()
        into = self._up if self._folds_in_place else None
        self._worker.begin(Broadcast(start.round, parts, start.weight), into)
        self._number = start.number

    def finish(self) -> Arrays:
        """What was folded this round, if it is not in a slot."""
        return {name: tensor.cpu().numpy() for name, tensor in self._worker.finish().items()}


def _read_only_tensor(array: NDArray[np.float32]) -> torch.Tensor:
    # The object store's own memory, shared by all workers of the node: nothing here writes to a broadcast.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _keep_freed_memory() -> None:
    """Let glibc keep freed buffers: returned to the system, they cost a page fault for each page of each step."""
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)
    except (OSError, AttributeError):
        return  # another C library, which has its own ways
