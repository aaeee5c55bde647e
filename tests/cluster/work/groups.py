"""Worker groups of the tests of handing out: what they take, and what lies in their memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedray.run.evaluation import HoldoutChunk

PINS = (None, "north", "south")


@dataclass(eq=False)
class Group:
    """A worker group of the model: what lies in its memory and is nowhere else."""

    slots: Mapping[str | None, int]
    memory: Counter[int] = field(default_factory=Counter)

    @property
    def pins(self) -> frozenset[str | None]:
        """What it takes."""
        return frozenset(self.slots)

    def capacity(self, pin: str | None) -> int:
        """How many of it take such work."""
        return self.slots.get(pin, 0)


def items(pins: list[str | None]) -> list[HoldoutChunk]:
    """Items with these pins."""
    return [HoldoutChunk(index, np.zeros(0, dtype=np.int64), pin) for index, pin in enumerate(pins)]
