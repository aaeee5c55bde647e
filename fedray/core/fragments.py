"""The fragments of a model, of which one travels in each round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fedray.core.columns import Columns
from fedray.core.errors import ConfigError, listed
from fedray.core.layout import Layout
from fedray.core.regions import spans_of


@dataclass(frozen=True)
class Fragment:
    """Some of the tensors that travel.

    Args:
        layout: of these tensors alone, as if they were a model.
        columns: their places in an update.
    """

    layout: Layout
    columns: Columns


@dataclass(frozen=True)
class Fragments:
    """All tensors that travel, in fragments, and the one of each round.

    >>> from torch import nn
    >>> halves = Fragments.of(Layout.of(nn.Linear(3, 2)), [["bias"], ["weight"]], lambda round: round % 2)
    >>> halves.at(1).columns.places, halves.width, halves.moved(after=3, until=4), halves.behind(2, 3)
    ((slice(0, 6, None),), 6, {1}, 2)

    Args:
        members: the fragments.
        choose: the place among them of the one that travels in a round.
    """

    members: tuple[Fragment, ...]
    choose: Callable[[int], int]

    @classmethod
    def of(cls, layout: Layout, names: Sequence[Collection[str]], choose: Callable[[int], int]) -> Fragments:
        """Return the fragments that have the tensors of these names.

        Raises:
            ConfigError: a tensor that travels is in none or in several, or a name is that of no such tensor.
        """
        travels = [entry for entry in layout.parameters if entry.region == "shared"]
        counts = Counter(name for some in names for name in some)
        wrong = [entry.name for entry in travels if counts.pop(entry.name, 0) != 1] + list(counts)
        if wrong or not all(names):
            said = (
                f"{wrong[0]} is in none, in several, or is no tensor that travels" if wrong else "one of them is empty"
            )
            raise ConfigError(
                f"algorithm: its fragments share out the tensors that travel, each to one of them, and {said}; there "
                f"are {listed(entry.name for entry in travels)}"
            )
        chosen = [[entry for entry in travels if entry.name in some] for some in names]
        places = [tuple(spans_of(some)) for some in chosen]
        width = max(sum(place.stop - place.start for place in some) for some in places)
        found = zip(chosen, places, strict=True)
        return cls(tuple(Fragment(layout.only(some), Columns(place, width)) for some, place in found), choose)

    @property
    def width(self) -> int:
        """The length in which updates are summed: that of the longest of them."""
        return self.members[0].columns.width

    def at(self, round: int) -> Fragment:
        """Return the one that travels in a round."""
        return self.members[self.choose(round)]

    def moved(self, after: int, until: int) -> set[int]:
        """Return those that have moved from the end of round ``after`` on, before round ``until`` begins."""
        found: set[int] = set()
        for round in range(until - 1, after - 1, -1):
            found.add(self.choose(round))
            if len(found) == len(self.members):
                break
        return found

    def behind(self, last: int, round: int) -> int:
        """Return the number of values that have moved since a client last took part; all, where it has not yet (0)."""
        moved = self.moved(last, round) if last else range(len(self.members))
        return sum(self.members[number].columns.size for number in moved)
