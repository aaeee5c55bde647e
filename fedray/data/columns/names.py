"""The names of clients, and the clients of names, without an object for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.config.binding import nearest

_COMPARED = 10_000
"""The names that a word which nobody has is compared with: with all of very many it would take minutes."""


@dataclass(frozen=True)
class Names:
    """The names of n clients.

    >>> names = Names(3, np.array([b"north", b"south", b"west"]))
    >>> names.of(2), names.find(["south", "nort"]), names.nearest("nort")
    ('west', {'south': 1}, " (did you mean 'north'?)")
    >>> Names(10**9).find(["12", "012", "-1", "1000000000"])
    {'12': 12}

    Args:
        count: n.
        ids: the names ``[n]``; None: clients are their numbers.
    """

    count: int
    ids: NDArray[np.bytes_] | None = None

    def of(self, client: int) -> str:
        """Return the name of a client."""
        return str(int(client)) if self.ids is None else str(self.ids[client].decode())

    def find(self, names: Iterable[str]) -> dict[str, int]:
        """Return the clients that have these names, by name; a name that nobody has is left out."""
        wanted = [name for name in dict.fromkeys(names) if name.isascii()]
        if self.ids is None:
            numbers = {name: int(name) for name in wanted if name.isdecimal()}
            return {name: number for name, number in numbers.items() if number < self.count and str(number) == name}
        found = np.flatnonzero(np.isin(self.ids, np.array([name.encode() for name in wanted], dtype=np.bytes_)))
        return {self.of(client): client for client in found.tolist()}

    def nearest(self, name: str) -> str:
        """Return `` (did you mean 'x'?)`` for the closest name, or nothing."""
        return nearest(name, map(self.of, range(min(self.count, _COMPARED))))

    def unknown(self, name: str) -> str:
        """Say that nobody has a name.

        >>> Names(2).unknown("3")
        "no client '3'; there are 2, the first is '0'"
        """
        return f"no client {name!r}{self.nearest(name)}; there are {self.count}, the first is {self.of(0)!r}"
