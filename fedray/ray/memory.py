"""Memory shared by the processes of one node: the broadcast, and one accumulator slot for each worker.

Between processes that share memory, Ray carries only control: a round's vectors go through buffers of our own,
    without a copy
through the object store.  A buffer is an anonymous file, opened by other processes of the same user through
``/proc``; it leaves nothing behind when its last process ends.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


def supported() -> bool:
    """Whether this system has anonymous files that another process can open (Linux)."""
    return hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


@dataclass(frozen=True)
class Handle:
    """Where a buffer can be opened, and which tensors lie in it, one after the other."""

    path: str
    dtype: torch.dtype
    widths: Mapping[str, int]

    def open(self) -> dict[str, Tensor]:
        """The tensors by name, each ``[width]``; writes are seen by all processes.

        Raises:
            OSError: the owner is gone, or lives on another node.
        """
        file = os.open(self.path, os.O_RDWR)
        try:
            return _tensors(file, self.dtype, self.widths)
        finally:
            os.close(file)


class Buffer:
    """A shared buffer, owned by this process, zero at first.

    Args:
        widths: length of each tensor in it.
        dtype: their type.
    """

    def __init__(self, widths: Mapping[str, int], dtype: torch.dtype) -> None:
        size = max(1, sum(widths.values()) * dtype.itemsize)
        self._file = os.memfd_create("fedray", os.MFD_CLOEXEC)
        os.ftruncate(self._file, size)
        self.handle = Handle(f"/proc/{os.getpid()}/fd/{self._file}", dtype, dict(widths))
        self.tensors = _tensors(self._file, dtype, widths)

    def close(self) -> None:
        """Give up ownership; mappings stay valid where they are."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Tickets:
    """A counter shared by processes: whoever takes a number does the work item of that number.

    Handing out work so costs microseconds, a call to an actor half a millisecond.  The lock is the kernel's, so it is
    free again when its holder dies.

    Args:
        path: the counter's buffer.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR)
        self._next = _tensors(self._file, torch.int64, {"next": 1})["next"]

    def take(self) -> int:
        """The next number."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            number = int(self._next)
            self._next += 1
            return number
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def set(self, number: int) -> None:
        """Go on from ``number``: 0 for new work, more than there are items to end the work."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            self._next.fill_(number)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the counter."""
        os.close(self._file)


def _tensors(file: int, dtype: torch.dtype, widths: Mapping[str, int]) -> dict[str, Tensor]:
    total = sum(widths.values())
    if total == 0:
        return {name: torch.empty(0, dtype=dtype) for name in widths}
    memory = mmap.mmap(file, total * dtype.itemsize)
    whole = torch.frombuffer(memory, dtype=dtype, count=total)
    return dict(zip(widths, whole.split(list(widths.values())), strict=True))
