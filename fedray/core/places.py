"""The places of clients' rows in files, as columns: a cohort has many short rows, and an object for each would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def _none() -> Ints:
    return np.zeros(0, dtype=np.int64)


NO_PLACES = _none()
"""No places at all."""


class Row(NamedTuple):
    """The place of a client's row on disk: a segment file and the number of a row in it."""

    segment: str
    number: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Places(Mapping[int, Row]):
    """The places of the rows of some clients, read-only.

    >>> places = Places(np.array([7, 4]), ("a", "b"), np.array([1, 0]), np.array([5, 6]))
    >>> places[4], 5 in places, dict(places.only(np.array([7])))
    (Row(segment='a', number=6), False, {7: Row(segment='b', number=5)})

    Args:
        clients: client indices ``[n]``, each once.
        segments: the names of segment files.
        segment: the one of them that each row is in, ``[n]``.
        number: its number there, ``[n]``.
    """

    clients: Ints = field(default_factory=_none)
    segments: tuple[str, ...] = ()
    segment: Ints = field(default_factory=_none)
    number: Ints = field(default_factory=_none)

    def __repr__(self) -> str:
        return f"Places({dict(self)})"

    def __len__(self) -> int:
        return len(self.clients)

    def __iter__(self) -> Iterator[int]:
        return iter(self.clients.tolist())

    def __getitem__(self, client: int) -> Row:
        found = np.flatnonzero(self.clients == client)
        if not len(found):
            raise KeyError(client)
        place = int(found[0])
        return Row(self.segments[self.segment[place]], int(self.number[place]))

    def at(self, clients: Ints) -> Ints:
        """Return where each of ``clients`` stands among those of the places, ``[n]``; -1: it does not."""
        if not len(self):
            return np.full(len(clients), -1)
        if np.array_equal(self.clients, clients):
            return np.arange(len(clients))
        order = np.argsort(self.clients)
        found = order[np.minimum(np.searchsorted(self.clients, clients, sorter=order), len(order) - 1)]
        return np.where(self.clients[found] == clients, found, -1)

    def only(self, clients: Ints) -> Places:
        """Return the places of those of ``clients`` that have one, in their order."""
        found = self.at(clients)
        found = found[found >= 0]
        return Places(self.clients[found], self.segments, self.segment[found], self.number[found])


def joined(several: Sequence[Places]) -> Places:
    """Return the places of several, one after the other; no client has two.

    >>> one = Places(np.array([7]), ("a",), np.array([0]), np.array([5]))
    >>> joined([one, Places(), Places(np.array([3]), ("b", "a"), np.array([1]), np.array([2]))])
    Places({7: Row(segment='a', number=5), 3: Row(segment='a', number=2)})
    """
    several = [places for places in several if len(places)]
    if len(several) < 2:
        return several[0] if several else NOWHERE
    names = tuple(dict.fromkeys(name for places in several for name in places.segments))
    segments = [
        places.segment if places.segments == names[: len(places.segments)] else _renumbered(places, names)
        for places in several
    ]
    clients, numbers = ([getattr(places, name) for places in several] for name in ("clients", "number"))
    return Places(np.concatenate(clients), names, np.concatenate(segments), np.concatenate(numbers))


def _renumbered(places: Places, names: tuple[str, ...]) -> Ints:
    return np.array([names.index(name) for name in places.segments])[places.segment]


NOWHERE = Places()
"""The places of nobody's rows: one object, which a pickled message of many blocks holds once."""
