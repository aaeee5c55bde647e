"""Short sums: in 32 bits where all that is added is small, which is half the memory and half the way to it.

Steps of the grid are whole numbers.  As long as no mean that is added reaches SHORT_LIMIT in magnitude, their sum fits
in 32 bits.  A sum is cut into pieces, each with the memory that it takes in float64; it begins in the first half of
that, and the second half is not touched before a value comes that does not fit: then this piece becomes wide.  Both are
exact, so that neither the form nor the time of the change shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.aggregators.exact import LIMIT, add_change, add_rounded, in_range, values

SHORT_LIMIT = 2.0**-6
"""Magnitude of a block's weighted mean below which a short piece takes it: 2**30 steps of the grid."""

SHORT_ROOM = 1.5
"""The share of the weight up to which pieces stay short; with rounding that is less than the 2**31 steps that fit."""

PIECE = 1 << 19
"""Entries of a piece."""


def pays(memory: Tensor) -> bool:
    """Return True if a sum in some memory is worth to be short: on a CPU, of at least a piece."""
    return memory.device.type == "cpu" and len(memory) >= PIECE


@dataclass(frozen=True)
class ShortSum:
    """A sum of which some pieces are short, in steps of the grid.

    >>> total = ShortSum.of(torch.zeros(3, dtype=torch.float64))
    >>> total.add(torch.tensor([0.0, 2.0**-7, -(2.0**-7)]), 1.0, 1.0)
    >>> total.wide, total.piece(0)
    (tensor([False]), tensor([         0,  536870912, -536870912], dtype=torch.int32))
    >>> total.add(torch.ones(3), 0.5, 0.5)
    >>> total.wide, total.filled() * 2.0**-36
    (tensor([True]), tensor([0.5000, 0.5078, 0.4922], dtype=torch.float64))

    Args:
        memory: float64 ``[n]``, of which a wide piece is its entries, and a short one the first half of their bytes.
        wide: True for the pieces that are wide, on the CPU.
    """

    memory: Tensor
    wide: Tensor

    @classmethod
    def of(cls, memory: Tensor) -> ShortSum:
        """Return the sum whose pieces all are short, of whatever is there."""
        return cls(memory, torch.zeros(-(-len(memory) // PIECE), dtype=torch.bool))

    def places(self) -> Iterator[tuple[int, slice]]:
        """Return the number and the place of each piece."""
        for number in range(len(self.wide)):
            yield number, slice(number * PIECE, min((number + 1) * PIECE, len(self.memory)))

    def piece(self, number: int) -> Tensor:
        """Return a piece ``[k]`` in its memory: int32, or float64 if it is wide."""
        memory = self.memory[number * PIECE : (number + 1) * PIECE]
        return memory if self.wide[number] else memory.view(torch.int32)[: len(memory)]

    def widened(self, number: int) -> Tensor:
        """Return a piece in float64 ``[k]``, which it is from now on."""
        if not self.wide[number]:
            short = self.piece(number).clone()
            self.wide[number] = True
            self.piece(number).copy_(short)
        return self.piece(number)

    def filled(self) -> Tensor:
        """Return the sum in float64 ``[n]``, in its memory."""
        for number in range(len(self.wide)):
            self.widened(number)
        return self.memory

    def clear(self) -> None:
        """Make the sum zero, and all pieces short."""
        self.wide.zero_()
        for number in range(len(self.wide)):
            self.piece(number).zero_()

    def add(self, addend: Tensor, scale: float, share: float) -> None:
        """Add as :func:`fedray.aggregators.exact.add_rounded` does; ``share`` is that of the weight in ``addend``."""
        for number, place in self.places():
            small = in_range(addend[place], share * SHORT_LIMIT)
            add_rounded(self.piece(number) if small else self.widened(number), addend[place], scale)

    def add_change(self, end: Tensor, start: Tensor, scale: float) -> bool:
        """Add as :func:`fedray.aggregators.exact.add_change` does; False: out of range, and nothing was added."""
        for number, place in self.places():
            if self._add_change(number, end[place], start[place], scale):
                continue
            for before, there in self.places():
                if before == number:
                    return False
                # Sums are exact: what is taken out again leaves the bits that were there.
                self._add_change(before, end[there], start[there], -scale)
        return True

    def _add_change(self, number: int, end: Tensor, start: Tensor, scale: float) -> bool:
        if not self.wide[number] and add_change(self.piece(number), end, start, scale, SHORT_LIMIT):
            return True
        return add_change(self.widened(number), end, start, scale, LIMIT)

    def merge(self, other: ShortSum | Tensor) -> None:
        """Add another sum, which may be all wide; two short pieces must have room for each other."""
        for number, place in self.places():
            theirs = other[place] if isinstance(other, Tensor) else other.piece(number)
            mine = self.widened(number) if theirs.is_floating_point() else self.piece(number)
            mine.add_(theirs)

    def values(self, share: float) -> Tensor:
        """Return what :func:`fedray.aggregators.exact.values` does, in the memory of the sum, which is lost."""
        found = self.memory.view(torch.float32)[: len(self.memory)]
        # These lie before the pieces that are still to be read.
        for number, place in self.places():
            values(self.piece(number), share, found[place])
        return found
