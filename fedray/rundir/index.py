"""An index of rows: where the last one of each client lies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

import numpy as np

from fedray.core.places import NOWHERE, Ints, Places

_LISTED = 1 << 16
"""Rows of a segment that are listed, dead ones among them, before a look at which are alive."""


def _column(length: int, value: int) -> Ints:
    return np.full(length, value, dtype=np.int64)


def _longer(column: Ints, length: int, value: int) -> Ints:
    """Return a column of at least this length; what is new has a value."""
    return np.concatenate([column, _column(max(length, 2 * len(column)) - len(column), value)])


class Index:
    """The places of the last row of each client, as columns over all of them; threads may ask while one updates.

    >>> index = Index()
    >>> index.update(Places(np.array([7, 4]), ("a",), np.array([0, 0]), np.array([0, 1])))
    array([], dtype=int64)
    >>> index.update(Places(np.array([4]), ("b",), np.array([0]), np.array([0])), of="a")
    array([1])
    >>> index.of(np.array([4, 5])), index.live
    (Places({4: Row(segment='b', number=0)}), {'a': 1, 'b': 1})
    """

    def __init__(self) -> None:
        self._segment, self._number = _column(0, -1), _column(0, 0)  # by client; -1: there is no row
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._written: dict[int, list[Ints]] = {}  # by segment, the clients of rows in it, those of dead ones too
        self._listed = Counter[int]()  # their number
        self._live = _column(16, 0)  # by segment
        self._free = list(range(16))
        self._lock = threading.Lock()

    def update(self, places: Places, of: str = "") -> Ints:
        """Take rows over, in the place of the clients' rows before; return the numbers of those in segment ``of``."""
        if not len(places):
            return places.number
        with self._lock:
            if (count := int(places.clients.max()) + 1) > len(self._segment):
                self._segment, self._number = _longer(self._segment, count, -1), _longer(self._number, count, 0)
            before = self._segment[places.clients]
            replaced = (
                self._number[places.clients[before == self._numbers[of]]] if of in self._numbers else _column(0, 0)
            )
            numbers = [self._number_of(name) for name in places.segments]
            for place, number in enumerate(numbers):
                mine = places.clients if len(numbers) == 1 else places.clients[places.segment == place]
                self._written.setdefault(number, []).append(mine)
                self._listed[number] += len(mine)
            now = np.array(numbers)[places.segment]
            self._segment[places.clients], self._number[places.clients] = now, places.number
            self._live += np.bincount(now, minlength=len(self._live))
            self._live -= np.bincount(before[before >= 0], minlength=len(self._live))
            for number in [number for number in self._names if not self._live[number]]:
                del self._numbers[self._names.pop(number)], self._written[number], self._listed[number]
                self._free.append(number)
            for number in numbers:  # one may be written into in each round
                if self._listed[number] > _LISTED + 2 * self._live[number]:
                    self._alive(number)
            return replaced

    def _number_of(self, name: str) -> int:
        """Return the number of a segment; those of dead ones are given again, so that all stay small."""
        found = self._numbers.get(name)
        if found is None:
            if not self._free:
                self._free = list(range(len(self._live), 2 * len(self._live)))
                self._live = _longer(self._live, 0, 0)
            self._numbers[name] = found = self._free.pop()
            self._names[found] = name
        return found

    def of(self, clients: Ints) -> Places:
        """Return the places of the rows of ``clients``, in their order; who has none is absent."""
        with self._lock:
            if not self._numbers:
                return NOWHERE
            known = clients
            if int(clients.max(initial=-1)) >= len(self._segment):
                known = clients[clients < len(self._segment)]
            segment = self._segment[known]
            if int(segment.min(initial=0)) < 0:
                known = known[segment >= 0]
                segment = self._segment[known]
            if len(self._names) == 1 and len(known):
                return Places(known, tuple(self._names.values()), np.zeros_like(known), self._number[known])
            place = np.empty_like(self._live)
            used = np.flatnonzero(np.bincount(segment, minlength=len(self._live)))
            place[used] = np.arange(len(used))
            names = tuple(self._names[number] for number in used.tolist())
            return Places(known, names, place[segment], self._number[known])

    @property
    def clients(self) -> Ints:
        """The clients that have a row, ``[n]``, ascending."""
        return np.flatnonzero(self._segment >= 0)

    @property
    def live(self) -> dict[str, int]:
        """The number of clients whose row lies in each segment; those with none are not there."""
        return {name: int(self._live[number]) for name, number in self._numbers.items()}

    def within(self, segments: Iterable[str]) -> Places:
        """Return the places of the rows that lie in some segments, in the order in which they lie there."""
        with self._lock:
            found = [self._alive(self._numbers[name]) for name in segments]
        clients = np.concatenate([_column(0, 0), *found])
        return self.of(clients[np.lexsort((self._number[clients], self._segment[clients]))])

    def _alive(self, number: int) -> Ints:
        """Return the clients whose last row lies in a segment, by who wrote into it: a look at all would take long."""
        clients = np.concatenate(self._written[number])
        alive: Ints = np.unique(clients[self._segment[clients] == number])
        self._written[number], self._listed[number] = [alive], len(alive)
        return alive
