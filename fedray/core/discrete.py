"""The discrete Gaussian, drawn exactly: whole numbers from whole numbers, without a float anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = Callable[[int], NDArray[np.uint64]]
"""A number n to the next n words of 64 uniform bits, uint64 ``[n]``."""

LARGEST = 2**48
"""The largest parameter sigma^2: beyond it products of 64 bits would overflow."""

_FINE = 2**24
"""The sigma^2 up to which any whole number is one; from there on it is a multiple of the proposal's scale."""

_BATCH = 1 << 15
_FAR = 31
_TIES = 4


def _inverse_e() -> tuple[int, ...]:
    """Return the first words, of 64 bits, of 1 / e after the binary point, by its series in whole numbers."""
    bits = 64 * (_TIES + 1)
    total, term, k = 0, 1 << bits, 0
    while term:
        total += -term if k % 2 else term
        k += 1
        term //= k
    return tuple((total >> (bits - 64 * (i + 1))) & (2**64 - 1) for i in range(_TIES))


_INVERSE_E = _inverse_e()


@dataclass(frozen=True)
class DiscreteGaussian:
    """The discrete Gaussian of whole numbers, ``P(x) ~ exp(-x^2 / (2 sigma^2))``, drawn exactly.

    Algorithms 1 to 3 of Canonne, Kamath and Steinke (arXiv:2004.00010) on arrays: proposals of the discrete Laplace
    distribution of the scale t, accepted with the probability ``exp(-(|y| - sigma^2 / t)^2 / (2 sigma^2))``, which
    takes comparisons of whole random numbers alone.  Deviations: t is the power of two near sigma, in the place of
    floor(sigma) + 1, which any t may be; 1 / e is compared by its first 256 bits; and a proposal beyond 2^7 times
    max(sigma, t) in magnitude, which would be accepted with a probability below exp(-8000), is not.

    >>> from fedray.core.noise import Stream
    >>> DiscreteGaussian(9).draw(Stream(bytes(32)).words, 12)
    array([-1, -3,  1,  7, -6, -1,  1, -1,  3, -3, -4,  0])

    Args:
        square: sigma^2, a whole number from 1 to 2^48, and from 2^24 on a multiple of :attr:`scale`
            (:meth:`at_least`).  The variance is below it, by a share that falls like
            ``8 pi^2 sigma^2 exp(-2 pi^2 sigma^2)``.

    Raises:
        ValueError: it is none.
    """

    square: int

    def __post_init__(self) -> None:
        if not 1 <= self.square <= LARGEST:
            raise ValueError(f"square={self.square}: sigma^2 is a whole number from 1 to 2^48")
        if self.square > _FINE and self.square % self.scale:
            raise ValueError(f"square={self.square}: from 2^24 on it is a multiple of {self.scale}: use at_least")

    @classmethod
    def at_least(cls, square: int) -> DiscreteGaussian:
        """Return the one of the least sigma^2 that there is from ``square`` on: at most 1/2900 of it more.

        >>> DiscreteGaussian.at_least(1000).square, DiscreteGaussian.at_least(10**9 + 1).square
        (1000, 1000013824)
        """
        grain = 1 if square <= _FINE else _near(square)
        return cls(max(1, -(-square // grain) * grain))

    @property
    def scale(self) -> int:
        """The scale t of proposals, a power of two."""
        return _near(self.square)

    def draw(self, words: Words, count: int) -> NDArray[np.int64]:
        """Return independent draws, int64 ``[count]``: the same for the same words and number.

        Args:
            words: uniform ones, such as :meth:`fedray.core.noise.Stream.words`.
            count: n.
        """
        found, have = np.empty(count, dtype=np.int64), 0
        while have < count:
            # About 1.8 proposals are taken for a draw; a batch fits the cache.
            drawn = self._accepted(words, min(_BATCH, 2 * (count - have) + 8))[: count - have]
            found[have : have + len(drawn)] = drawn
            have += len(drawn)
        return found

    def _accepted(self, words: Words, count: int) -> NDArray[np.int64]:
        t, s = self.scale, self.square
        fine = t if s <= _FINE else 1  # gamma = (|y| fine - s fine / t)^2 / (2 s fine^2)
        low = words(count) & np.uint64(t - 1)
        low = low[_exp_minus(words, low, t)]
        size = low.astype(np.int64) + t * _geometric(words, len(low))
        negative = (words(len(size)) & np.uint64(1)).astype(bool)
        kept = ~(negative & (size == 0)) & (size < (1 << _FAR) // fine)
        size, negative = size[kept], negative[kept]
        top, below = np.square(size * fine - s * fine // t).astype(np.uint64), 2 * s * fine * fine
        whole = _quotient(top, below)
        accepted = _exp_minus(words, top - whole * np.uint64(below), below)
        accepted[accepted] = _exp_minus_whole(words, whole[accepted].astype(np.int64))
        found: NDArray[np.int64] = np.where(negative, -size, size)[accepted]
        return found


def _near(square: int) -> int:
    """Return the power of two nearest to the root of a whole number, by their ratio, rounded down at a tie."""
    low = 1 << ((math.isqrt(square).bit_length()) - 1)
    return low if square <= 2 * low * low else 2 * low


def _quotient(top: NDArray[np.uint64], below: int) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = top // np.uint64(below)
    return found


def _uniform(words: Words, count: int, below: int) -> NDArray[np.uint64]:
    """Return ``count`` numbers, uniform in [0, below), by rejection."""
    found = words(count)
    if below & (below - 1) == 0:
        found &= np.uint64(below - 1)
        return found
    most = np.uint64(2**64 - 2**64 % below - 1)
    while (bad := np.flatnonzero(found > most)).size:
        found[bad] = words(len(bad))
    found -= _quotient(found, below) * np.uint64(below)
    return found


def _exp_minus(words: Words, top: NDArray[np.uint64], below: int) -> NDArray[np.bool_]:
    """Return coins that are True with the probabilities ``exp(-top / below)``, for top <= below."""
    found = np.empty(len(top), dtype=bool)
    alive, k = np.arange(len(top)), 1
    while len(alive):
        on = _uniform(words, len(alive), below) < top[alive]
        found[alive[~on]] = k % 2 == 1
        alive, k = alive[on], k + 1
        if len(alive):
            # The next coin is one of top / (below k): both of two independent ones.
            on = _uniform(words, len(alive), k) == 0
            found[alive[~on]] = k % 2 == 1
            alive = alive[on]
    return found


def _once(words: Words, count: int) -> NDArray[np.bool_]:
    """Return coins that are True with the probability 1 / e, by its bits."""
    drawn = words(count)
    found = drawn < np.uint64(_INVERSE_E[0])
    tied = np.flatnonzero(drawn == np.uint64(_INVERSE_E[0]))
    for word in _INVERSE_E[1:]:
        if not len(tied):
            break
        more = words(len(tied))
        found[tied] = more < np.uint64(word)
        tied = tied[more == np.uint64(word)]
    return found


def _geometric(words: Words, count: int) -> NDArray[np.int64]:
    """Return the numbers of coins of 1 / e that are True before the first that is not."""
    found, alive = np.zeros(count, dtype=np.int64), np.arange(count)
    while len(alive):
        alive = alive[_once(words, len(alive))]
        found[alive] += 1
    return found


def _exp_minus_whole(words: Words, exponents: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return coins that are True with the probabilities ``exp(-n)``, for whole numbers n."""
    found, left = np.ones(len(exponents), dtype=bool), exponents.copy()
    alive = np.flatnonzero(left)
    while len(alive):
        on = _once(words, len(alive))
        found[alive[~on]] = False
        alive = alive[on]
        left[alive] -= 1
        alive = alive[left[alive] > 0]
    return found
