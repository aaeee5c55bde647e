"""Memory shared by the processes of one node: the broadcast, and one accumulator for each worker.

Between processes that share memory, Ray carries only control: a round's vectors go through buffers of our own, without
a copy through the object store.  A buffer is an anonymous file, opened by other processes of the same user through
``/proc``; it leaves nothing behind when its last process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from rich.filesize import decimal
from torch import Tensor

from fedray.cluster.work.pinning import pin, unpin
from fedray.core.errors import RunFailed

_SHM = "/dev/shm"
_CLOEXEC = 1


@dataclass(frozen=True)
class Handle:
    """The place where a buffer can be opened, and the tensors that lie in it, one after the other."""

    path: str
    dtype: torch.dtype
    widths: Mapping[str, int]

    def open(self) -> dict[str, Tensor]:
        """Return the tensors by name, each ``[width]``; writes are seen by all processes.

        Raises:
            OSError: the owner is gone, or lives on another node.
        """
        file = os.open(self.path, os.O_RDWR)
        try:
            return mapped(file, self.dtype, self.widths)
        finally:
            os.close(file)


class Descriptor:
    """The descriptor of an open file, which is closed with the last reference to it if nobody does so before.

    A file object would close it as well, with a ``ResourceWarning``: here an owner may be dropped by an exception.

    Args:
        number: the descriptor; it belongs to this object from here on.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._end = weakref.finalize(self, _close, number)

    def fileno(self) -> int:
        """Return its number; -1 once it is closed, as the system gives a number to another file then."""
        return self._number if self._end.alive else -1

    def close(self) -> None:
        """Close it; a second call does nothing."""
        self._end()


def _close(number: int) -> None:
    with contextlib.suppress(OSError):
        os.close(number)


class Buffer:
    """A shared buffer, owned by this process, zero at first.

    Args:
        widths: length of each tensor in it.
        dtype: their type.
        pinned: this process copies it to and from a GPU.
    """

    def __init__(self, widths: Mapping[str, int], dtype: torch.dtype, pinned: bool = False) -> None:
        size = max(1, sum(widths.values()) * dtype.itemsize)
        self._file = Descriptor(anonymous_file(size)[0])
        self.handle = Handle(f"/proc/{os.getpid()}/fd/{self._file.fileno()}", dtype, dict(widths))
        self.tensors = mapped(self._file.fileno(), dtype, widths)
        self._pinned = pinned and pin(self.tensors)

    def close(self) -> None:
        """Give up ownership; mappings stay valid where they are."""
        self._file.close()
        if self._pinned:
            unpin(self.tensors)
            self._pinned = False


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
            f"no shared memory of {decimal(size)}: {_SHM}: {error.strerror or error}; without memfd_create, which "
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
    """Call the C library's ``memfd_create``.

    Python builds for older systems, as conda's, lack it; the C library that is here has it all the same.
    """
    file: int = ctypes.CDLL(None, use_errno=True).memfd_create(b"fedray", _CLOEXEC)
    if file < 0:
        raise OSError(ctypes.get_errno() or errno.ENOSYS, "memfd_create")
    return file


def mapped(file: int, dtype: torch.dtype, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Map tensors that lie in a file one after the other into this process's memory.

    Args:
        file: descriptor, which may be closed afterwards.
        dtype: of all tensors.
        widths: length of each, by name.
    """
    total = sum(widths.values())
    if total == 0:
        return {name: torch.empty(0, dtype=dtype) for name in widths}
    memory = mmap.mmap(file, total * dtype.itemsize)
    whole = torch.frombuffer(memory, dtype=dtype, count=total)
    return dict(zip(widths, whole.split(list(widths.values())), strict=True))
