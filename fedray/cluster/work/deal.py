"""Which team does which items of a round, and what has been done: no item twice in the sum, none left out."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from fedray.run.worker import Item, Report, TestChunk


class Crew(Protocol):
    """What a deal must know of a team."""

    @property
    def pins(self) -> frozenset[str | None]:
        """Of the items that its workers take."""

    def takers(self, pin: str | None) -> int:
        """How many of its workers take items of this pin."""


class Deal:
    """Hands out the items of a round to teams, as they ask, and keeps their reports.

    What only a lost team did is handed out again.  What a team folded can be *banked*: once the driver has it, the
    team may be lost without loss.

    Args:
        items: the round's work, longest first.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = list(items)
        self.lost = 0
        self._lock = threading.Lock()
        self._reports: dict[int, tuple[Crew | None, Report]] = {}
        self._holders: dict[int, Crew] = {}
        self._free: dict[str | None, deque[int]] = {}
        self._crews: list[Crew] = []

    def open(self, crews: Sequence[Crew]) -> dict[int, Item]:
        """Begin to hand out what nobody has done to these teams; returns what none of them may do, by position."""
        # Anybody can read the test set: the workers of no silo, or else those of the first one that is there.  Not just
        # anybody who is free, as devices may differ in bits.
        anybody = min((pin for crew in crews for pin in crew.pins), key=lambda pin: pin or "", default=None)
        with self._lock:
            self._crews = list(crews)
            self._free = {}
            nobody: dict[int, Item] = {}
            for position, item in enumerate(self._items):
                if position in self._reports:
                    continue
                if isinstance(item, TestChunk):
                    item = self._items[position] = replace(item, pin=anybody)
                if not any(crew.takers(item.pin) for crew in crews):
                    nobody[position] = item
                else:
                    self._free.setdefault(item.pin, deque()).append(position)
            return nobody

    def take(self, crew: Crew) -> dict[int, Item]:
        """Work for a team: what is pinned to where it is, and a share of the rest that shrinks as the rest does.

        The shares (guided self-scheduling, Polychronopoulos & Kuck, 1987) cost a few calls for each team and leave
        little for anybody to wait for at the end.
        """
        with self._lock:
            positions: list[int] = []
            for pin, free in sorted(self._free.items(), key=lambda entry: (entry[0] is None, entry[0] or "")):
                if free and (mine := crew.takers(pin)):
                    all_takers = sum(other.takers(pin) for other in self._crews)
                    fair = len(free) * mine / all_takers
                    # Half of a fair share, but something for each of its workers; all of it, if nobody else is there.
                    count = len(free) if mine == all_takers else max(math.ceil(fair / 2), min(mine, math.ceil(fair)))
                    positions += [free.popleft() for _ in range(min(count, len(free)))]
            self._holders |= dict.fromkeys(positions, crew)
            return {position: self._items[position] for position in positions}

    def accept(self, crew: Crew | None, reports: Mapping[int, Report]) -> None:
        """Keep reports; ``None`` as the team: decided by the driver itself."""
        with self._lock:
            self._reports |= {position: (crew, report) for position, report in reports.items()}

    def lose(self, crew: Crew) -> None:
        """Forget what a lost team did, unless it is banked; ``lost`` counts the items that it took for nothing."""
        with self._lock:
            lost = [
                position
                for position, holder in self._holders.items()
                if holder is crew and self._reports.get(position, (crew,))[0] is crew
            ]
            for position in lost:
                self._reports.pop(position, None)
                del self._holders[position]
            self.lost += len(lost)

    def bank(self, crew: Crew) -> None:
        """The driver has what the team folded."""
        with self._lock:
            for position, (by, report) in self._reports.items():
                if by is crew:
                    self._reports[position] = (None, report)

    def unbanked(self, crew: Crew) -> bool:
        """Whether the team did anything that is not banked."""
        with self._lock:
            return any(by is crew for by, _ in self._reports.values())

    @property
    def complete(self) -> bool:
        """Whether every item has its report."""
        return len(self._reports) == len(self._items)

    def reports(self) -> list[Report]:
        """One report for each item."""
        return [self._reports[position][1] for position in range(len(self._items))]
