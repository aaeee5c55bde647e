"""Memory shared by the processes of one node: the broadcast, and one accumulator slot for each worker.

Between processes that share memory, Ray carries only control: a round's vectors go through buffers of our own, without
a copy through the object store.  A buffer is an anonymous file, opened by other processes of the same user through
``/proc``; it leaves nothing behind when its last process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.cluster.work.pinning import pin, unpin
from fedray.core.errors import RunFailed

_SHM = "/dev/shm"
_CLOEXEC = 1


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
        pinned: this process copies it to and from a GPU.
    """

    def __init__(self, widths: Mapping[str, int], dtype: torch.dtype, pinned: bool = False) -> None:
        size = max(1, sum(widths.values()) * dtype.itemsize)
        self._file = anonymous_file(size)[0]
        self.handle = Handle(f"/proc/{os.getpid()}/fd/{self._file}", dtype, dict(widths))
        self.tensors = _tensors(self._file, dtype, widths)
        self._pinned = pinned and pin(self.tensors)

    def close(self) -> None:
        """Give up ownership; mappings stay valid where they are."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if self._pinned:
                unpin(self.tensors)


class Board:
    """What the workers of a node share out among themselves: the next ticket, and what each of them is at.

    Whoever takes a ticket does the work item of that number.  Handing out work so costs microseconds, a call to an
    actor half a millisecond.  The lock is the kernel's, so it is free again when its holder dies.

    Args:
        handle: the buffer, made by :meth:`buffer`.
        seat: which worker this is; ``None`` for the one who hands out.
        queue: which tickets it takes.
    """

    def __init__(self, handle: Handle, seat: int | None = None, queue: int = 0) -> None:
        self._file = os.open(handle.path, os.O_RDWR)
        self._shared = _tensors(self._file, torch.int64, handle.widths)
        self._seat, self._queue = seat, queue

    @staticmethod
    def buffer(seats: int, queues: int = 1) -> Buffer:
        """Memory for a board of so many workers, and so many kinds of tickets."""
        return Buffer({"next": queues, "item": seats, "since": seats}, torch.int64)

    def take(self) -> int:
        """The next number; from now on this worker is at it."""
        with self._locked():
            number = int(self._shared["next"][self._queue])
            self._shared["next"][self._queue] += 1
            self._shared["since"][self._seat] = time.monotonic_ns()
            self._shared["item"][self._seat] = number
        return number

    def open(self) -> None:
        """Hand out numbers from 0 on; nobody is at anything."""
        with self._locked():
            self._shared["since"].fill_(time.monotonic_ns())
            self._shared["item"].fill_(-1)
            self._shared["next"].fill_(0)

    def taken(self, queue: int = 0) -> int:
        """How many numbers of a queue have been taken, those included for which there was no work."""
        return int(self._shared["next"][queue])

    def end(self) -> None:
        """Hand out no more work."""
        with self._locked():
            self._shared["next"].fill_(1 << 62)

    def at(self, seat: int) -> tuple[int, float]:
        """The number a worker took last (-1: none), and how many seconds ago (since :meth:`open`, if none)."""
        # Without the lock, which a worker that was stopped may hold: it may go on between two looks.
        while True:
            item, since, still = (int(self._shared[name][seat]) for name in ("item", "since", "item"))
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
        """Let go of the board."""
        os.close(self._file)


def anonymous_file(size: int) -> tuple[int, str]:
    """Open a new file of zeros that has no name, and is gone with the last process that has it open or mapped.

    Args:
        size: bytes.

    Returns:
        The descriptor, and where the file lives: ``memfd``, ``memfd of the C library`` or ``/dev/shm``.

    Raises:
        RunFailed: there is no room for it.
    """
    for source, name in ((_memfd, "memfd"), (_memfd_of_libc, "memfd of the C library")):
        with contextlib.suppress(AttributeError, OSError):
            return _sized(source(), size), name
    try:
        with tempfile.TemporaryFile(prefix="fedray-", dir=_SHM) as unnamed:
            # Where /dev/shm is short of memory, as in many containers, writing to a mapping would kill the process.
            os.posix_fallocate(unnamed.fileno(), 0, size)
            return os.dup(unnamed.fileno()), _SHM
    except OSError as error:
        raise RunFailed(
            f"no shared memory of {size / 1e6:.1f} MB: {_SHM}: {error.strerror or error}; without memfd_create, which "
            f"this system lacks, {_SHM} must have room (container: --shm-size)"
        ) from error


def _sized(file: int, size: int) -> int:
    try:
        os.ftruncate(file, size)
    except OSError:
        os.close(file)
        raise
    return file


def _memfd() -> int:
    return os.memfd_create("fedray", os.MFD_CLOEXEC)


def _memfd_of_libc() -> int:
    """Python builds for older systems, as conda's, lack it; the C library that is here has it all the same."""
    file: int = ctypes.CDLL(None, use_errno=True).memfd_create(b"fedray", _CLOEXEC)
    if file < 0:
        raise OSError(ctypes.get_errno() or errno.ENOSYS, "memfd_create")
    return file


def _tensors(file: int, dtype: torch.dtype, widths: Mapping[str, int]) -> dict[str, Tensor]:
    total = sum(widths.values())
    if total == 0:
        return {name: torch.empty(0, dtype=dtype) for name in widths}
    memory = mmap.mmap(file, total * dtype.itemsize)
    whole = torch.frombuffer(memory, dtype=dtype, count=total)
    return dict(zip(widths, whole.split(list(widths.values())), strict=True))
