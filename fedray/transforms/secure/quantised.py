"""Updates as whole numbers: clipped entry by entry, counted in steps of a grid, rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.core.messages import Ints

Rounding = Literal["stochastic", "nearest", "zero"]

MOST_BITS = 53
"""Float64 counts whole numbers no further."""


@dataclass(frozen=True)
class Grid:
    """The grid of a client's entries: ``q = round(clip(x, -range, range) / step)``.

    ``step = range / (2^(bits-1) - 1)``, so |q| < 2^(bits-1), and the sum of n clients stays below
    2^(bits - 1 + ceil(log2 n)) in magnitude: modulo 2^(bits + ceil(log2 n)) it is never mistaken for another.

    >>> grid = Grid(bits=4, range=1.4, rounding="nearest")
    >>> grid.steps(np.array([0.2, -0.39, 5.0]))
    (array([ 1, -2,  7]), 1)
    >>> grid.mean(np.array([6]), count=4)
    array([0.3], dtype=float32)

    Args:
        bits: of an entry with its sign, from 2 to 53.
        range: the largest magnitude of an entry that is kept, above 0.
        rounding: ``stochastic``: up where the fraction is larger than a draw, so that the expectation is the value;
            ``nearest``, ties to even; ``zero``: towards zero, which makes no update longer.
    """

    bits: int
    range: float
    rounding: Rounding = "stochastic"

    @property
    def most(self) -> int:
        """The largest whole number of a client's."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def step(self) -> float:
        """The distance of two neighbouring values."""
        return self.range / self.most

    def steps(self, values: NDArray[Any], draws: np.random.Generator | None = None) -> tuple[Ints, int]:
        """Return entries as whole numbers, int64 ``[n]``, and how many of them were beyond the range.

        Args:
            values: ``[n]``, finite.
            draws: for stochastic rounding.
        """
        wide = values.astype(np.float64)
        saturated = int(np.count_nonzero(np.abs(wide) > self.range))
        scaled = np.clip(wide, -self.range, self.range) / self.step
        if self.rounding == "stochastic":
            assert draws is not None
            whole = np.floor(scaled + draws.random(len(scaled)))
        else:
            whole = np.rint(scaled) if self.rounding == "nearest" else np.trunc(scaled)
        # Division may round to one step more than there is.
        return np.clip(whole, -self.most, self.most).astype(np.int64), saturated

    def mean(self, total: Ints, count: float) -> NDArray[np.float32]:
        """Return the mean over ``count`` clients of a sum of whole numbers, float32 ``[n]``."""
        return (total.astype(np.float64) * (self.step / count)).astype(np.float32)
