"""The queue from which worker groups take work, each as much as keeps it busy and leaves the others something."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Generic, Protocol, TypeVar

from fedray.cluster.work.ledger import Ledger
from fedray.run.evaluation import TestChunk
from fedray.run.worker import Item


class Consumer(Protocol):
    """A consumer of the queue: a worker group."""

    @property
    def pins(self) -> frozenset[str | None]:
        """Pins of the items that its workers do."""

    def capacity(self, pin: str | None) -> int:
        """Return how many of its workers do items of a pin."""


C = TypeVar("C", bound=Consumer)


class WorkQueue(Generic[C]):
    """The items of a round that nobody has done yet, by pin.

    Args:
        ledger: of the round, whose items are ordered longest first; what is taken is assigned there.
    """

    def __init__(self, ledger: Ledger[C]) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._free: dict[str | None, deque[int]] = {}
        self._consumers: list[C] = []

    def open(self, consumers: Sequence[C]) -> dict[int, Item]:
        """Begin to hand out what is missing to these consumers; return what none of them may do, by position."""
        # Anybody can read the test set: the workers of no silo, or else those of the first one that is there.  Not just
        # anybody who is free, as devices may differ in bits.
        anybody = min((pin for one in consumers for pin in one.pins), key=lambda pin: pin or "", default=None)
        items = self._ledger.items

        @cache  # a round has many items of few pins
        def anyone(pin: str | None) -> bool:
            return any(one.capacity(pin) for one in consumers)

        with self._lock:
            self._consumers = list(consumers)
            self._free = {}
            nobody: dict[int, Item] = {}
            for position in self._ledger.missing():
                item = items[position]
                if isinstance(item, TestChunk):
                    item = items[position] = replace(item, pin=anybody)
                if not anyone(item.pin):
                    nobody[position] = item
                else:
                    self._free.setdefault(item.pin, deque()).append(position)
            return nobody

    def take(self, consumer: C) -> dict[int, Item]:
        """Take work: what is pinned to where the consumer is, and a share of the rest that shrinks as the rest does.

        The shares (guided self-scheduling, Polychronopoulos & Kuck, 1987) cost a few calls for each consumer and leave
        little for anybody to wait for at the end.
        """
        with self._lock:
            positions: list[int] = []
            for pin, free in sorted(self._free.items(), key=lambda entry: (entry[0] is None, entry[0] or "")):
                if free and (mine := consumer.capacity(pin)):
                    everybody = sum(other.capacity(pin) for other in self._consumers)
                    fair = len(free) * mine / everybody
                    # Half of a fair share, but something for each of its workers; all of it, if nobody else is there.
                    count = len(free) if mine == everybody else max(math.ceil(fair / 2), min(mine, math.ceil(fair)))
                    positions += [free.popleft() for _ in range(min(count, len(free)))]
            self._ledger.assign(consumer, positions)
            return {position: self._ledger.items[position] for position in positions}
