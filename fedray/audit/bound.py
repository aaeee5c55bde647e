"""Lower bounds on epsilon from guesses who was there, and the scores that guesses are made by."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from fedray.core.record import finite


@dataclass(frozen=True)
class Guesses:
    """Guesses of the presence of canaries in runs.

    >>> guesses = Guesses(there=500, hits=400, away=500, alarms=100)
    >>> round(guesses.epsilon(delta=0.0, confidence=0.95), 2)  # of these alone one would say log(0.8 / 0.2) = 1.39
    1.16
    >>> Guesses(there=4, hits=4, away=4, alarms=0).epsilon(0.0, 0.95)  # too few to tell anything
    0.0

    Args:
        there: the number of canaries in runs.
        hits: the number of these guessed to be in.
        away: the number of canaries that were not.
        alarms: the number of these guessed to be in.
    """

    there: int
    hits: int
    away: int
    alarms: int

    @classmethod
    def of(cls, scores: NDArray[np.float64], there: NDArray[np.bool_]) -> Guesses:
        """Make the guesses by scores above 0, float64 ``[n]``, of canaries that were there or not, ``[n]``.

        >>> Guesses.of(np.array([1.0, -1.0, 2.0]), np.array([True, True, False]))
        Guesses(there=2, hits=1, away=1, alarms=1)
        """
        said = scores > 0.0
        return cls(int(there.sum()), int((said & there).sum()), int((~there).sum()), int((said & ~there).sum()))

    def epsilon(self, delta: float, confidence: float) -> float:
        """Return a lower bound on epsilon at ``delta``; 0: the guesses tell nothing.

        Of any (epsilon, delta)-private mechanism hits are at most ``e^epsilon alarms + delta``, and the same of those
        that are rightly said to be away (Kairouz et al., arXiv:1311.0776).  Both rates have Clopper-Pearson bounds,
        each at half of what confidence leaves, so that they hold together.

        Args:
            delta: in [0, 1).
            confidence: the probability, at least, with which the bound is below the true epsilon, in (0, 1).
        """
        if not self.there or not self.away:
            return 0.0
        hit = _interval(self.hits, self.there, confidence)[0]
        alarm = _interval(self.alarms, self.away, confidence)[1]
        pairs = (hit - delta, alarm), (1.0 - alarm - delta, 1.0 - hit)
        return max([0.0, *(math.log(more / less) for more, less in pairs if more > 0.0)])

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def _interval(count: int, of: int, confidence: float) -> tuple[float, float]:
    # Its two sides leave half of the rest each; of each rate one side is used, and so both hold together.
    rest = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, rest))
    return low, 1.0 if count == of else float(betaincinv(count + 1, of - count, 1.0 - rest))


def log_ratio(
    seen: NDArray[np.float64],
    noise_multiplier: float | NDArray[np.float64],
    rate: float | NDArray[np.float64],
    away: float = 0.0,
) -> NDArray[np.float64]:
    """Return the log likelihood ratios of presence to absence of canaries, summed over rounds, ``[K]``.

    In a round a canary adds 1 with the probability ``rate``, else ``away``; one that is not in adds 0 in the place of
    1.  The noise is normal, of the standard deviation ``noise_multiplier``.  A score is no assumption: whatever the
    noise is, a bound from guesses by it holds.

    >>> log_ratio(np.array([[1.0, 0.0], [1.0, 0.0]]), noise_multiplier=1.0, rate=1.0)
    array([ 1., -1.])

    Args:
        seen: the releases of rounds along the directions of canaries ``[T, K]``.
        noise_multiplier: z > 0, or that of each in each round, ``[T, K]``.
        rate: the probability that a client takes part in a round, in [0, 1], or that of each in each, ``[T, K]``.
        away: the sum of a client that does not take part: 1/2 of ``replace_one``, where 0 is its opposite.
    """
    rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), seen.shape)

    def likelihood(place: float) -> NDArray[np.float64]:
        value: NDArray[np.float64] = -0.5 * ((seen - place) / noise_multiplier) ** 2
        return value

    with np.errstate(divide="ignore"):  # who surely takes part, or does not
        takes, absent = np.log(rates), np.log1p(-rates) + likelihood(away)
    there, gone = (np.logaddexp(absent, takes + likelihood(place)) for place in (1.0, 0.0))
    total: NDArray[np.float64] = (there - gone).sum(axis=0)
    return total


def laplace_ratio(seen: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Return the log likelihood ratios of :func:`log_ratio` under Laplace noise, of who surely takes part.

    >>> laplace_ratio(np.array([[2.0, 0.25], [0.5, 0.5]]), scale=0.5)
    array([ 2., -1.])

    Args:
        seen: the releases of rounds, around 1 of who was in and 0 of who was not, ``[T, K]``.
        scale: b > 0 of the density ``exp(-|x| / b) / 2b``.
    """
    total: NDArray[np.float64] = ((np.abs(seen) - np.abs(seen - 1.0)) / scale).sum(axis=0)
    return total


def correlated_ratio(
    seen: NDArray[np.float64],
    noise_multiplier: float,
    takes: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    away: float = 0.0,
) -> NDArray[np.float64]:
    """Return the log likelihood ratios of :func:`log_ratio` under noise ``C^-1 z`` that is correlated between rounds.

    Of what is seen, times C, the noise is independent again.  Who takes part in which round is known to whoever
    guesses, as the accountant counts on nothing else.

    >>> seen = np.array([[1.0], [0.5]])
    >>> correlated_ratio(seen, 1.0, np.array([[True], [False]]), np.eye(2)) == log_ratio(seen[:1], 1.0, 1.0)
    array([ True])

    Args:
        seen: the releases of rounds along the directions of canaries ``[T, K]``.
        noise_multiplier: the standard deviation of z.
        takes: True where a canary takes part in a round, ``[T, K]``.
        matrix: C, ``[T, T]``.
        away: as there.
    """
    means = (matrix @ np.where(takes, place, away) for place in (1.0, 0.0))
    there, gone = (((matrix @ seen - mean) / noise_multiplier) ** 2 for mean in means)
    total: NDArray[np.float64] = 0.5 * (gone - there).sum(axis=0)
    return total


@dataclass(frozen=True)
class Line:
    """A claim at one delta, and what was found.

    Args:
        delta: the probability at which epsilon may not hold.
        claimed: the epsilon that the accountant claims; may be infinite.
        found: the lower bound.
    """

    delta: float
    claimed: float
    found: float

    @property
    def refuted(self) -> bool:
        """True where the bound is above the claim."""
        return self.found > self.claimed

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON; an infinite claim becomes null."""
        return {"delta": self.delta, "claimed": finite(self.claimed), "found": self.found, "refuted": self.refuted}
