"""Rows of client state in memory, where one process trains and drives: files hold them once a checkpoint needs them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from fedray.core.fields import Bytes
from fedray.core.messages import Ints

MEMORY = "memory"
"""The name that stands for the file of rows in memory; the number of a row is its place there."""

LIMIT = 512 << 20
"""The most bytes of rows; further ones are written to files at once."""


class HeldRows:
    """Rows in memory, which a worker leaves for the driver of its own process.

    A row that is replaced makes room for another one, so that there are those of all clients, and of about three
    cohorts; nothing is rewritten.  A checkpoint writes those that no file has, and notes which file has them.  Threads
    may read while others write, as a place is given again only at the second call of :meth:`tidy` that finds it free.

    >>> held = HeldRows([2], limit=6)  # three rows
    >>> first = held.put([np.array([[1, 2], [3, 4]], dtype=np.uint8)])
    >>> first, held.put([np.ones((2, 2), dtype=np.uint8)])
    (array([0, 1]), None)
    >>> held.accept(first, replaced=first[:0])
    >>> held.accept(held.put([np.ones((1, 2), dtype=np.uint8)]), replaced=first[:1])
    >>> for _ in range(2):
    ...     held.tidy()
    >>> held.put([np.ones((1, 2), dtype=np.uint8)])
    array([0])

    Args:
        sizes: the bytes of each field of a row.
        limit: the most bytes of all rows; only those that are in use take memory.

    Attributes:
        files: the files that have rows of this memory, with the number of rows that were written to each.
    """

    def __init__(self, sizes: Sequence[int], limit: int = LIMIT) -> None:
        self._most = most = limit // sum(sizes)
        # Not by torch, which fills new memory where it is to be deterministic.
        self._fields: list[Bytes] = [np.empty((most, size), dtype=np.uint8) for size in sizes]
        self._used = 0  # the places behind were never given
        self._free = np.zeros(0, dtype=np.int64)
        self._accepted = np.zeros(most, dtype=np.bool_)
        self._new: tuple[list[Ints], list[Ints]] = [], []  # since the last call of tidy, and the one before
        self._old: tuple[list[Ints], list[Ints]] = [], []
        self._names: list[str] = []
        self._file, self._number = np.zeros(most, dtype=np.int64), np.zeros(most, dtype=np.int64)  # 0: of no file
        self._lock = threading.Lock()
        self.files: dict[str, int] = {}

    def put(self, rows: Sequence[Bytes]) -> Ints | None:
        """Take a copy of rows, whose fields are ``[n, bytes]`` each, and return their places ``[n]``; None: no room."""
        with self._lock:
            fresh = max(0, len(rows[0]) - len(self._free))
            if self._used + fresh > self._most:
                return None
            # Those that were given back last may be in the cache.
            kept = len(self._free) - len(rows[0]) + fresh
            places, self._free = self._free[kept:], self._free[:kept]
            if fresh:
                places = np.concatenate([places, np.arange(self._used, self._used + fresh)])
                self._used += fresh
            self._new[0].append(places)
            self._file[places] = 0
        for field, given in zip(self._fields, rows, strict=True):
            field[places] = given
        return places

    def accept(self, places: Ints, replaced: Ints) -> None:
        """Keep rows from now on, in the place of others."""
        with self._lock:
            self._accepted[places] = True
            self._old[0].append(replaced)

    def tidy(self) -> None:
        """Give places free that were replaced, or never accepted, since before the last call."""
        with self._lock:
            never = [places[~self._accepted[places]] for places in self._new[1]]
            gone = np.concatenate([self._free[:0], *self._old[1], *never])
            self._accepted[gone] = False
            self._free = np.concatenate([self._free, gone])
            self._new, self._old = ([], self._new[0]), ([], self._old[0])

    def read(self, places: Ints, out: Sequence[Bytes]) -> None:
        """Copy the rows at places ``[n]`` into ``out``, their fields ``[n, bytes]``."""
        for field, found in zip(self._fields, out, strict=True):
            np.take(field, places, axis=0, out=found, mode="clip")  # all are there: "raise" would copy twice

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
