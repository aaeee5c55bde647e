"""A file in memory for the rows that a worker folded where they are no sum: written there, read by whoever asks.

It belongs to the worker's group, and so outlives the worker.  It is read and written by calls and mapped by nobody: no
process's memory grows with the cohort, the node's does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedray.cluster.work.memory import Descriptor, anonymous_file
from fedray.core.errors import RunFailed
from fedray.core.messages import Floats, Ints

_FLOAT = 4


@dataclass(frozen=True)
class Held:
    """The rows that a worker has written to its file since it last told of them.

    Args:
        first: the first of them.
        clients: the client of each, ``[m]``.
        weight: aggregation weights, float64 ``[m]``.
    """

    first: int
    clients: Ints
    weight: Floats


@dataclass(frozen=True)
class RowHandle:
    """The place where a file of rows can be opened.

    Args:
        path: of the file.
        widths: length of each part of a row, one after the other.
    """

    path: str
    widths: Mapping[str, int]

    def open(self) -> RowWriter:
        """Open it for writing.

        Raises:
            OSError: the owner is gone, or lives on another node.
        """
        return RowWriter(os.open(self.path, os.O_RDWR | os.O_CLOEXEC), self.widths)


class RowFile:
    """A file of rows, owned by this process.

    Args:
        widths: length of each part of a row.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        self._file = Descriptor(anonymous_file(1)[0])
        self.handle = RowHandle(f"/proc/{os.getpid()}/fd/{self._file.fileno()}", dict(widths))

    def shelf(self, held: Held) -> FileShelf:
        """Return rows that were written; they stay when this is closed."""
        return FileShelf(os.dup(self._file.fileno()), self.handle.widths, held)

    def close(self) -> None:
        """Give up ownership; the memory is free when no shelf is left."""
        self._file.close()


class RowWriter:
    """A worker's end of its file.

    Args:
        file: descriptor; the writer closes it.
        widths: length of each part of a row.
    """

    def __init__(self, file: int, widths: Mapping[str, int]) -> None:
        self._file, self._widths = Descriptor(file), widths
        self.count = 0

    def rewind(self) -> None:
        """Forget all rows: the next ones are written over them."""
        self.count = 0

    def append(self, parts: Mapping[str, Tensor]) -> None:
        """Write rows ``[m, k]`` of all parts.

        Raises:
            RunFailed: the node has no memory left for them.
        """
        rows = np.concatenate([parts[name].cpu().numpy() for name in self._widths], axis=1, dtype=np.float32)
        left, place = rows.reshape(-1).view(np.uint8).data, self.count * _FLOAT * rows.shape[1]
        try:
            while left:
                written = os.pwrite(self._file.fileno(), left, place)
                left, place = left[written:], place + written
        except OSError as error:
            reason = f"no memory for the updates that an aggregator wants to see: {error.strerror}"
            raise RunFailed(f"{reason}; take smaller cohorts, more nodes, or aggregator mean") from error
        self.count += len(rows)

    def close(self) -> None:
        """Close it here."""
        self._file.close()


class FileShelf:
    """Rows in a file on this node.

    Args:
        file: descriptor; the shelf closes it.
        widths: length of each part of a row.
        held: the rows.
    """

    def __init__(self, file: int, widths: Mapping[str, int], held: Held) -> None:
        self._file, self._widths, self._held = Descriptor(file), dict(widths), held
        starts = np.cumsum([0, *widths.values()]).tolist()
        self._starts = dict(zip(widths, starts[:-1], strict=True))
        self._length: int = starts[-1]

    @property
    def clients(self) -> Ints:
        """The client of each row."""
        return self._held.clients

    @property
    def weight(self) -> Floats:
        """The weight of each row."""
        return self._held.weight

    def read(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        """Return the columns ``[start, stop)`` of some rows of a part."""
        found = np.empty((len(rows), stop - start), dtype=np.float32)
        for row, into in zip((rows + self._held.first).tolist(), found, strict=True):
            self._fill(into.view(np.uint8).data, _FLOAT * (row * self._length + self._starts[part] + start))
        return found

    def __reduce__(self) -> tuple[Callable[..., FileShelf], tuple[str, Mapping[str, int], Held]]:
        """Pickle the place of the file, which other processes of this node open."""
        return _opened, (f"/proc/{os.getpid()}/fd/{self._file.fileno()}", self._widths, self._held)

    def _fill(self, into: memoryview, place: int) -> None:
        while into:
            read = os.preadv(self._file.fileno(), [into], place)
            if not read:
                raise EOFError("a row that was told of is not in its file")
            into, place = into[read:], place + read

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._file.close()


def _opened(path: str, widths: Mapping[str, int], held: Held) -> FileShelf:
    return FileShelf(os.open(path, os.O_RDONLY | os.O_CLOEXEC), widths, held)
