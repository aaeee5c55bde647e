"""Noise that is correlated between rounds, so that most of it cancels in the sum of all updates: DP-FTRL."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from fedray.core.messages import Floats, Ints
from fedray.privacy.factorisation import inverse

Kept = Literal["draws", "noise"]


class Correlation(ABC):
    """The base of correlations: a lower triangular matrix C ``[rounds, rounds]``, 1 on the diagonal, no entry below 0.

    The noise of round t is row t of ``C^-1 z``, where z are independent draws, one for each round.  Who adds it to the
    sums x of all rounds releases no more than ``C x + z``: a Gaussian mechanism of which one client changes the mean by
    :meth:`sensitivity` at most, over all rounds together (Denisov et al., arXiv:2202.08312, theorem 2.1, whatever a
    round makes of those before it).
    """

    rounds: int
    keeps: ClassVar[Kept]
    """The vectors of earlier rounds of which the noise of a round is made."""

    @abstractmethod
    def terms(self, round: int) -> Mapping[int, float]:
        """Return the earlier rounds whose vectors are taken off the draws of a round, each with its factor."""

    @abstractmethod
    def kept(self, round: int) -> tuple[int, ...]:
        """Return the rounds whose vectors are needed after ``round``."""

    @abstractmethod
    def deviation(self, round: int) -> float:
        """Return the standard deviation of the noise of a round, in that of the draws."""

    @abstractmethod
    def of_sum(self, round: int) -> float:
        """Return the standard deviation of the noise on the sum of all rounds up to ``round``, in that of the draws."""

    @abstractmethod
    def sensitivity(self, turns: int) -> float:
        """Return the largest change of ``C x`` by a client that sends vectors of norm 1 whenever it is its turn.

        As no entry is negative, no client changes it by more than who takes part in each turn, with one vector.

        Args:
            turns: the number of groups that take turns; 1: everybody may take part in every round.
        """

    @abstractmethod
    def single(self, turns: int) -> float:
        """Return the largest change of one row of ``C x`` by such a client."""

    def matrix(self) -> Floats:
        """Return C, ``[rounds, rounds]``; of few rounds."""
        found = np.zeros((self.rounds, self.rounds))
        draws = np.eye(self.rounds)
        rows: dict[int, Floats] = {}
        for round in range(1, self.rounds + 1):
            noise = draws[round - 1] - sum((f * rows[s] for s, f in self.terms(round).items()), np.zeros(self.rounds))
            rows[round] = draws[round - 1] if self.keeps == "draws" else noise
            found[round - 1] = noise
        inverted: Floats = np.linalg.inv(found).astype(np.float64)
        return inverted


@dataclass(frozen=True)
class Banded(Correlation):
    """A Toeplitz matrix of few bands (Choquette-Choo et al., arXiv:2306.08153).

    ``w_t = z_t - sum_(0 < j < b) c_j w_(t-j)``: the noise of the last b - 1 rounds is what it keeps.

    >>> Banded(3, (1.0, 0.5)).matrix()
    array([[1. , 0. , 0. ],
           [0.5, 1. , 0. ],
           [0. , 0.5, 1. ]])

    Args:
        rounds: the number of rounds.
        coefficients: c_0 = 1, ..., c_(b-1), none below 0.
    """

    rounds: int
    coefficients: tuple[float, ...] = (1.0,)

    keeps: ClassVar[Kept] = "noise"

    @property
    def bands(self) -> int:
        """Their number."""
        return len(self.coefficients)

    @cached_property
    def _inverse(self) -> Floats:
        return inverse(np.array(self.coefficients), self.rounds)

    @cached_property
    def _deviations(self) -> Floats:
        return np.sqrt(np.cumsum(self._inverse**2))

    @cached_property
    def _of_sums(self) -> Floats:
        return np.sqrt(np.cumsum(np.cumsum(self._inverse) ** 2))

    def terms(self, round: int) -> Mapping[int, float]:
        """Return the rounds before, as many as there are bands."""
        return {round - j: self.coefficients[j] for j in range(1, min(self.bands, round))}

    def kept(self, round: int) -> tuple[int, ...]:
        """Return the last rounds."""
        return tuple(range(max(1, round - self.bands + 2), round + 1)) if round < self.rounds else ()

    def deviation(self, round: int) -> float:
        """Return the norm of a row of the inverse."""
        return float(self._deviations[round - 1])

    def of_sum(self, round: int) -> float:
        """Return the norm of a row of ``A C^-1``."""
        return float(self._of_sums[round - 1])

    def sensitivity(self, turns: int) -> float:
        """Return the norm of the columns of the first group: bands of one client do not overlap.

        Raises:
            ValueError: there are more bands than turns.
        """
        if self.bands > turns:
            raise ValueError(
                f"bands={self.bands}: a client takes part again after {turns} rounds: take at most {turns}"
            )
        norms = np.cumsum(np.array(self.coefficients) ** 2)
        columns = np.arange(0, self.rounds, turns)
        return math.sqrt(float(norms[np.minimum(self.rounds - columns, self.bands) - 1].sum()))

    def single(self, turns: int) -> float:
        """Return the largest coefficient, as a client takes part in one round at most of those in a row of C."""
        return max(self.coefficients)


@dataclass(frozen=True)
class Tree(Correlation):
    """Tree aggregation (Kairouz et al., arXiv:2103.00039), begun anew every ``restart`` rounds.

    Round t is a leaf; the noise on the sum of t rounds is that of the nodes of which this sum is made, one for each 1
    in the binary digits of t, and that of a round the difference of two such sums.  Of the nodes that end with a round
    one alone is in such a sum, the largest that is a left child or a root: that of the last ``2^v`` rounds, where
    ``2^v`` is the largest power that divides t.  So C has a row for each round and is a Fenwick tree.  It keeps the
    draws of at most log2(restart) + 1 nodes.  Honaker's estimate, which averages over several nodes of the same rounds,
    is left out.

    >>> Tree(4, 4).matrix().astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 0],
           [1, 1, 1, 1]])

    Args:
        rounds: the number of rounds.
        restart: the number of rounds of a tree.
    """

    rounds: int
    restart: int

    keeps: ClassVar[Kept] = "draws"

    def _place(self, round: int) -> tuple[int, int]:
        """Return a round's number within its tree, and the number of the rounds before the tree."""
        before = (round - 1) // self.restart * self.restart
        return round - before, before

    def terms(self, round: int) -> Mapping[int, float]:
        """Return the rounds with which the children of a round's node end."""
        place, before = self._place(round)
        found, child, start = dict[int, float](), place - 1, place - (place & -place)
        while child > start:
            found[before + child] = 1.0
            child -= child & -child
        return found

    def kept(self, round: int) -> tuple[int, ...]:
        """Return the rounds with which nodes end that still are to have a parent."""
        place, before = self._place(round)
        last, found = min(self.restart, self.rounds - before), list[int]()
        while place:
            if place + (place & -place) <= last:
                found.append(before + place)
            place -= place & -place
        return tuple(sorted(found))

    def deviation(self, round: int) -> float:
        """Return that of a node and its children."""
        return math.sqrt(1.0 + len(self.terms(round)))

    def of_sum(self, round: int) -> float:
        """Return that of the nodes of which the sum is made, of all trees."""
        place, before = self._place(round)
        trees = before // self.restart
        return math.sqrt(place.bit_count() + trees * self.restart.bit_count())

    def sensitivity(self, turns: int) -> float:
        """Return the norm of the numbers of a group's rounds below each node, of the group that has most."""
        return math.sqrt(max(float(counts @ counts) for counts in self._counts(turns)))

    def single(self, turns: int) -> float:
        """Return the largest number of a group's rounds below a node."""
        return float(max(counts.max() for counts in self._counts(turns)))

    def _counts(self, turns: int) -> list[Ints]:
        """Return for each group the number of its rounds below each node, ``[rounds]``."""
        places = np.arange(self.rounds) % self.restart + 1
        ends = np.arange(1, self.rounds + 1)
        starts, found = ends - (places & -places), list[Ints]()
        for group in range(min(turns, self.rounds)):
            taken = np.zeros(self.rounds + 1, dtype=np.int64)
            taken[group + 1 :: turns] = 1
            summed = np.cumsum(taken)
            found.append(summed[ends] - summed[starts])
        return found
