"""Rows of client state in memory that workers share with the driver: files hold them once a checkpoint needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from fedray.core.fields import Bytes
from fedray.core.messages import Ints
from fedray.core.places import Places

MEMORY = "memory"
"""The name that stands for the file of rows in memory; the number of a row is its place there."""

LIMIT = 512 << 20
"""The most bytes of rows; further ones are written to files at once."""


class RowMemory:
    """Memory of rows, which may be shared by processes: who is given places writes there, and others read them.

    >>> memory = RowMemory.of([2], limit=6)  # three rows
    >>> memory.write(np.array([2, 0]), [np.array([[1, 2], [3, 4]], dtype=np.uint8)])
    >>> memory.read(np.array([0]), [found := np.empty((1, 2), dtype=np.uint8)])
    >>> found.tolist(), memory.most
    ([[3, 4]], 3)

    Args:
        fields: the memory of each field, ``[most, bytes]``.
    """

    def __init__(self, fields: Sequence[Bytes]) -> None:
        self._fields = list(fields)
        self.most = len(fields[0])

    @classmethod
    def of(cls, sizes: Sequence[int], limit: int = LIMIT) -> RowMemory:
        """Make memory of this process, for at most ``limit`` bytes; what nobody writes to takes none.

        Args:
            sizes: the bytes of each field of a row.
            limit: the most bytes of all rows.
        """
        # Not by torch, which fills new memory where it is to be deterministic.
        return cls([np.empty((limit // sum(sizes), size), dtype=np.uint8) for size in sizes])

    def read(self, places: Ints, out: Sequence[Bytes]) -> None:
        """Copy the rows at places ``[n]`` into ``out``, their fields ``[n, bytes]``."""
        for field, found in zip(self._fields, out, strict=True):
            np.take(field, places, axis=0, out=found, mode="clip")  # all are there: "raise" would copy twice

    def write(self, places: Ints, rows: Sequence[Bytes]) -> None:
        """Copy rows, whose fields are ``[n, bytes]`` each, to places ``[n]``."""
        for field, given in zip(self._fields, rows, strict=True):
            field[places] = given


class HeldRows:
    """Rows in memory, whose places the driver gives to the workers that write them.

    A row that is replaced makes room for another one, so that there are those of all clients, and of about three
    cohorts; nothing is rewritten.  A checkpoint writes those that no file has, and notes which file has them.  Workers
    may read while others write, as a place is given again only at the second call of :meth:`tidy` that finds it free.

    >>> held = HeldRows(RowMemory.of([2], limit=6))  # three rows
    >>> first = held.reserve(2)
    >>> held.memory.write(first, [np.array([[1, 2], [3, 4]], dtype=np.uint8)])
    >>> first, held.reserve(2)
    (array([0, 1]), array([2]))
    >>> held.accept(first, replaced=first[:0])
    >>> held.accept(np.array([2]), replaced=first[:1])
    >>> for _ in range(2):
    ...     held.tidy()
    >>> held.reserve(2)
    array([0])

    Args:
        memory: the memory.

    Attributes:
        files: the files that have rows of this memory, with the number of rows that were written to each.
        filed: returns the places in files of rows whose places are given, and writes those that no file has; the store
            that has the index of the rows says how.
    """

    filed: Callable[[Places], Places]

    def __init__(self, memory: RowMemory) -> None:
        self.memory, self._most = memory, memory.most
        self._used = 0  # the places behind were never given
        self._free = np.zeros(0, dtype=np.int64)
        self._accepted = np.zeros(self._most, dtype=np.bool_)
        self._new: tuple[list[Ints], list[Ints]] = [], []  # since the last call of tidy, and the one before
        self._old: tuple[list[Ints], list[Ints]] = [], []
        self._names: list[str] = []
        self._file, self._number = np.zeros(self._most, dtype=np.int64), np.zeros(self._most, dtype=np.int64)  # 0: none
        self._lock = threading.Lock()
        self.files: dict[str, int] = {}

    def reserve(self, count: int) -> Ints:
        """Give places for so many new rows ``[n]``, or fewer where there is no room."""
        with self._lock:
            fresh = min(max(0, count - len(self._free)), self._most - self._used)
            # Those that were given back last may be in the cache.
            kept = max(0, len(self._free) - count)
            places, self._free = self._free[kept:], self._free[:kept]
            if fresh:
                places = np.concatenate([places, np.arange(self._used, self._used + fresh)])
                self._used += fresh
            self._new[0].append(places)
            self._file[places] = 0
        return places

    def accept(self, places: Ints, replaced: Ints) -> None:
        """Keep rows from now on, in the place of others."""
        with self._lock:
            self._accepted[places] = True
            self._old[0].append(replaced)

    def burn(self) -> None:
        """Give no place again that is given and not accepted: who was lost with some may still write to them."""
        with self._lock:
            self._new = [], []

    def tidy(self) -> None:
        """Give places free that were replaced, or never accepted, since before the last call."""
        with self._lock:
            never = [places[~self._accepted[places]] for places in self._new[1]]
            gone = np.concatenate([self._free[:0], *self._old[1], *never])
            self._accepted[gone] = False
            self._free = np.concatenate([self._free, gone])
            self._new, self._old = ([], self._new[0]), ([], self._old[0])

    # Files

    def unwritten(self, places: Ints) -> Ints:
        """Return those of places that no file has."""
        found: Ints = places[self._file[places] == 0]
        return found

    def wrote(self, places: Ints, name: str, first: int) -> None:
        """Note that a file has rows, from its row ``first`` on."""
        if name not in self.files:
            self._names.append(name)
            self.files[name] = 0
        self._file[places] = self._names.index(name) + 1
        self._number[places] = np.arange(first, first + len(places))
        self.files[name] = max(self.files[name], first + len(places))

    def written(self, places: Ints) -> tuple[list[str], Ints, Ints]:
        """Return where files have the rows at places ``[n]``: names, the one of each ``[n]``, its number there ``[n]``.

        Raises:
            RuntimeError: some are in no file.
        """
        if len(self.unwritten(places)):
            raise RuntimeError("rows of client state are in no file: flush the store before its index is saved")
        file: Ints = self._file[places] - 1
        return self._names, file, self._number[places]

    def forget(self, places: Ints, most: float, left: float) -> None:
        """Forget files that have few of the rows at ``places``, those of all clients; these are to be written anew.

        That is those without any, and the emptiest ones, once ``most`` times as many rows are in files as are wanted of
        them, until ``left`` times as many are.
        """
        live = np.bincount(self._file[places], minlength=len(self._names) + 1)[1:]
        wanted, stored = int(live.sum()), sum(self.files.values())
        down = left if stored > most * wanted else most
        gone = []
        for number in sorted(range(len(live)), key=lambda n: live[n] / self.files[self._names[n]]):
            if live[number] and stored <= down * wanted:
                break
            stored -= self.files[self._names[number]] - int(live[number])
            gone.append(number)
        if not gone:
            return
        stays = [number for number in range(len(live)) if number not in gone]
        renamed = np.zeros(len(live) + 1, dtype=np.int64)
        renamed[np.array(stays, dtype=np.int64) + 1] = np.arange(1, len(stays) + 1)
        with self._lock:
            self._file[: self._used] = renamed[self._file[: self._used]]
        self._names = [self._names[number] for number in stays]
        self.files = {name: self.files[name] for name in self._names}
