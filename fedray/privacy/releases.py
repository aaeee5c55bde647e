"""Releases of private data, as what they cost depends on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

Relation = Literal["add_or_remove", "replace_one", "zero_out"]
"""The difference of neighbouring federations: one client there or not; another client in its place, so that their
number is known; or one that has its rows, or takes part with zeros."""

Mechanism = Literal["independent", "tree", "banded", "laplace", "discrete"]
"""The noise: drawn anew in each round, or correlated between them (``tree``, ``banded``), which makes all rounds one
release; normal, but for ``laplace``, by which a client noises what it sends itself, and ``discrete``, of whole numbers,
of which no more is known than ``1 / (2 z^2)``-concentrated differential privacy."""

Sampling = Literal["poisson", "fixed"]
"""``poisson``: each client by a coin of its own; ``fixed``: a number of them, uniformly without replacement."""


@dataclass(frozen=True, order=True)
class Release:
    """Releases of a sum with Gaussian noise, alike, one after the other.

    >>> Release(noise_multiplier=1.0, rate=0.01, count=1000).fields
    {'noise_multiplier': 1.0, 'rate': 0.01}
    >>> Release(2.0, 0.1, sampling="fixed", relation="replace_one", turns=8).after(10).turn  # of the eleventh round
    2

    Args:
        noise_multiplier: z > 0: the standard deviation of the noise over what one client can change the sum by.  Where
            that is another client in its place, it is twice the norm that a client is clipped to.  Of ``laplace`` it is
            the scale over that, in the L1 norm.
        rate: q in (0, 1]: of ``poisson`` the probability with which a client takes part; of ``fixed`` the share of
            those whose turn it is; 1: all of them.
        count: the number of releases, at least 0.
        sampling: the way in which clients are drawn.
        relation: the difference of neighbouring federations: ``add_or_remove`` of ``poisson``, another of ``fixed``.
        turns: the number of groups of clients, of which one takes part in a release, in turn; 1: all may.
        turn: the group of these releases, from 0.
        mechanism: the noise.  One that is correlated between rounds is one release of all of them, whoever takes turns.
        planned: of correlated noise the number of these rounds; else 0.
        single: of correlated noise the noise multiplier of a round that is done again and comes out otherwise; else 0.
    """

    noise_multiplier: float
    rate: float = 1.0
    count: int = 1
    sampling: Sampling = "poisson"
    relation: Relation = "add_or_remove"
    turns: int = 1
    turn: int = 0
    mechanism: Mechanism = "independent"
    planned: int = 0
    single: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier={self.noise_multiplier:g}: it must be above 0")
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"rate={self.rate:g}: the sampling rate must be above 0 and at most 1")
        if self.count < 0:
            raise ValueError(f"count={self.count}: a number of releases is at least 0")
        if not 0 <= self.turn < self.turns:
            raise ValueError(f"turn={self.turn}: of {self.turns} turns it is one from 0 to {self.turns - 1}")
        if (self.sampling == "poisson") != (self.relation == "add_or_remove"):
            raise ValueError(
                f"sampling={self.sampling}, relation={self.relation}: coins are for one client there or not, and with "
                "a fixed number the others change places when one comes or goes: replace_one or zero_out"
            )

    @cached_property
    def fields(self) -> dict[str, float | int | str]:
        """The fields that make the kind, by name, without those that are as usual, and without the count."""
        kept = ("noise_multiplier", "rate")
        all_of = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "count"}
        return {name: value for name, value in all_of.items() if name in kept or value != getattr(Release, name)}

    @property
    def correlated(self) -> bool:
        """True if all rounds are one release."""
        return self.mechanism in ("tree", "banded")

    def after(self, rounds: int) -> Release:
        """Return the release that follows ``rounds`` rounds, the first of which is this one."""
        if self.turns == self.count == 1:
            return self
        return replace(self, turn=(self.turn + rounds) % self.turns, count=1)

    def over(self, rounds: int) -> tuple[Release, ...]:
        """Return the releases of so many rounds, the first of which is this one; one for each turn."""
        if rounds < 0:
            raise ValueError(f"rounds={rounds}: a number of releases is at least 0")
        if self.correlated:
            return (replace(self, count=1),) if rounds else ()
        turns = range(min(rounds, self.turns))
        return tuple(replace(self.after(i), count=-(-(rounds - i) // self.turns)) for i in turns)


def relations(releases: Iterable[Release]) -> tuple[Relation, ...]:
    """Return the relations that releases count on, each once.

    >>> relations([Release(1.0), Release(2.0)])
    ('add_or_remove',)
    """
    return tuple(dict.fromkeys(each.relation for each in releases))


class Charges:
    """Releases as they are paid for, added one by one.

    Of noise that is correlated between rounds the first one pays for all that are planned.  A round that was done again
    and came out otherwise is a row of ``C x + z`` more, with draws of its own, of which one client changes little.

    Where clients are drawn, a round that was done again has the same cohort, and so both releases the same coins: of
    the multipliers z_i they are one release of ``(sum_i z_i^-2)^(-1/2)``, as the weighted sum of what is seen tells all
    of it; two with coins of their own would cost less, but for very small epsilons.

    >>> tree = Release(4.0, sampling="fixed", relation="zero_out", mechanism="tree", planned=9, single=8.0)
    >>> [(each.noise_multiplier, each.count) for each in charged([(1, tree), (2, tree), (2, tree), (3, tree)])]
    [(4.0, 1), (8.0, 1)]
    >>> coins = Release(2.0, 0.1)
    >>> charges = Charges()
    >>> for number in (1, 2, 2):
    ...     charges.add(number, coins)
    >>> [(round(each.noise_multiplier, 4), each.count) for each in charges.releases]
    [(2.0, 1), (1.4142, 1)]
    """

    def __init__(self) -> None:
        self._counts: Counter[Release] = Counter()
        self._of_rounds: dict[tuple[int, Release], list[Release]] = {}

    def add(self, round: int, release: Release) -> None:
        """Take a release of a round; the order of rounds does not matter."""
        kind = release if release.correlated else replace(release, noise_multiplier=1.0)
        alike = self._of_rounds.setdefault((round, kind), [])
        if release.correlated:
            paid = Release(release.single, 1.0, 1, release.sampling, release.relation) if alike else release
            self._counts[paid] = self._counts[paid] + 1 if alike else 1
        elif kind.rate == 1.0 or not alike:
            self._counts[release] += 1
        else:
            self._counts[_of_one_cohort(alike)] -= 1
            self._counts[_of_one_cohort([*alike, release])] += 1
        alike.append(release)

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases so far, those alike in one."""
        return tuple(replace(each, count=count) for each, count in self._counts.items() if count)


def charged(entries: Iterable[tuple[int, Release]]) -> tuple[Release, ...]:
    """Return releases as they are paid for (:class:`Charges`), those alike in one.

    Args:
        entries: rounds, each with its release, in any order.
    """
    charges = Charges()
    for round, release in entries:
        charges.add(round, release)
    return charges.releases


def _of_one_cohort(releases: Sequence[Release]) -> Release:
    """Return the release that some are together, which differ in their noise alone and have the same coins."""
    if len(releases) == 1:
        return releases[0]
    return replace(releases[0], noise_multiplier=sum(each.noise_multiplier**-2 for each in releases) ** -0.5)
