"""A client's share of the noise on a secure sum: whole numbers of a bounded norm, noised before any mask."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from fedray.core.discrete import DiscreteGaussian, Words
from fedray.core.messages import Floats, Ints
from fedray.transforms.secure.quantised import Grid

TAILS = 10
"""The standard deviations of the noise for which a ring has room: beyond them a value is one of 10^21."""

MOST_NORM = 2**30
"""The largest Euclidean norm of whole numbers: squares of what is summed stay below 2^63."""

_TRIES = 64


@dataclass(frozen=True)
class Share:
    """The noise that each client adds to its whole numbers, and the norm that they keep for it.

    >>> grid = Grid(bits=8, range=1.0, rounding="nearest")
    >>> share = Share.of(grid, norm=1.0, length=3, square=9)
    >>> share.bounded(grid, np.array([0.8, -0.7, 0.0]))  # of a norm of 134.9, of 127 and 0.866 that may be
    array([ 96, -83,   0])

    Args:
        most: the largest squared Euclidean norm of a client's whole numbers.
        square: sigma^2 of the discrete Gaussian that each client adds.
    """

    most: int
    square: int

    @classmethod
    def of(cls, grid: Grid, norm: float, length: int, square: int) -> Share:
        """Make the share of clients whose values are clipped to ``norm``; see :func:`most_square`."""
        return cls(most_square(grid, norm, length), square)

    def bounded(self, grid: Grid, values: Floats, draws: np.random.Generator | None = None) -> Ints:
        """Return values as whole numbers, int64 ``[n]``, whose squares add up to ``most`` at most, exactly.

        Stochastic rounding is drawn again while it is longer (2102.06387, algorithm 1); what is then longer still, by a
        vector that was no more clipped than floats allow, is made shorter.

        Args:
            grid: rounds.
            values: ``[n]``, finite, clipped.
            draws: for stochastic rounding.
        """
        for _ in range(_TRIES if grid.rounding == "stochastic" else 1):
            whole, _ = grid.steps(values, draws)
            if _norm2(whole) <= self.most:
                return whole
        whole, _ = replace(grid, rounding="zero").steps(values)
        while (norm2 := _norm2(whole)) > self.most:
            # Every entry that is not 0 loses at least one, so this ends.
            whole = np.trunc(whole * (math.sqrt(self.most / norm2) * (1.0 - 1e-12))).astype(np.int64)
        return whole

    def noise(self, words: Words, count: int) -> Ints:
        """Return the noise of a client, int64 ``[count]``, by uniform words that are its own."""
        return DiscreteGaussian(self.square).draw(words, count)

    def room(self, grid: Grid, clients: int) -> int:
        """Return the bits of a ring in which sums of so many clients, with their noise, are not mistaken for others."""
        noise = math.ceil(TAILS * math.sqrt(clients * self.square))
        return (2 * (clients * grid.most + noise)).bit_length()


class SharesNoise(ABC):
    """The base of transforms by which each client adds a share of noise, in the ring of the secure sum after them."""

    @property
    @abstractmethod
    def share(self) -> Share:
        """The share, once the transform is prepared."""


def most_square(grid: Grid, norm: float, length: int) -> int:
    """Return the largest squared norm that whole numbers of a vector of the Euclidean norm ``norm`` may have.

    With ``c = norm / step``: of rounding towards ``zero`` c^2; ``nearest`` ``(c + sqrt(n) / 2)^2``; ``stochastic``
    ``min((c + sqrt(n))^2, c^2 + n / 4 + c + sqrt(n) / 2)``, which is that of Kairouz, Liu and Steinke
    (arXiv:2102.06387, theorem 1) at ``beta = exp(-1/2)``: a draw is within it with a probability of 0.39 at least.

    >>> [most_square(Grid(8, 1.0, way), norm=1.0, length=100) for way in ("zero", "nearest", "stochastic")]
    [16129, 17424, 16286]

    Args:
        grid: of the whole numbers.
        norm: C > 0.
        length: n.

    Raises:
        ValueError: it is less than 1, or too large for exact sums of squares.
    """
    c = Fraction(norm) * grid.most / Fraction(grid.range)
    # Rounded down: a bound that is a little tighter is one as well.
    root = Fraction(math.isqrt(length << 80), 1 << 40)
    found = {
        "zero": c**2,
        "nearest": (c + root / 2) ** 2,
        "stochastic": min((c + root) ** 2, c**2 + Fraction(length, 4) + c + root / 2),
    }[grid.rounding]
    if c < 1:
        raise ValueError(
            f"norm={norm:g}: it is less than a step of secure_sum, {grid.step:.3g}, so that all would be rounded to "
            "zeros: take more bits, or a smaller range"
        )
    if found > MOST_NORM**2 or length > MOST_NORM:
        bits = grid.bits - max(1, math.ceil(math.log2(found) / 2 - math.log2(MOST_NORM)))
        raise ValueError(
            f"norm={norm:g}: it has {float(c):.3g} steps of secure_sum, more than 2^30, by which sums of squares are "
            f"exact: take bits of at most {bits}, which noise hides in any case"
        )
    return math.floor(found)


def _norm2(whole: Ints) -> int:
    """Return the sum of squares, exactly."""
    rough = float(np.square(whole.astype(np.float64)).sum())
    return int(np.dot(whole, whole)) if rough < 2.0**62 else sum(_squares(whole))


def _squares(whole: Ints) -> Iterator[int]:
    return (value * value for value in whole.tolist())
