"""Local differential privacy: what leaves a client is noised by the client, and nobody need be trusted.

Two clients, or one with other rows, may send any two updates, so that what is released changes by up to twice the norm
that they are clipped to: sensitivities here are that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Floats
from fedray.local.clipping import clip_to
from fedray.privacy.releases import Mechanism as ReleaseMechanism
from fedray.privacy.releases import Release

Mechanism = Literal["gaussian", "laplace"]

Normal = Callable[[int], Floats]
"""A number n to n independent standard normal draws, float64 ``[n]``."""

_TIGHT = 1e-12


def gaussian_delta(deviation: float, epsilon: float, sensitivity: float = 1.0) -> float:
    """Return the least delta at which Gaussian noise is (epsilon, delta)-differentially private.

    ``Phi(D / 2s - e s / D) - exp(e) Phi(-D / 2s - e s / D)`` for the standard deviation s and the sensitivity D (Balle
    and Wang, arXiv:1805.06530, theorem 8), with logarithms, so that nothing overflows or cancels early.

    >>> round(gaussian_delta(deviation=1.0, epsilon=1.0), 6)
    0.126937

    Args:
        deviation: the standard deviation of the noise, above 0.
        epsilon: at least 0.
        sensitivity: the most that a release changes by, in the Euclidean norm, above 0.
    """
    from scipy.special import log_ndtr

    half, shift = sensitivity / (2.0 * deviation), epsilon * deviation / sensitivity
    first, second = float(log_ndtr(half - shift)), epsilon + float(log_ndtr(-half - shift))
    # exp(a) - exp(b), where b <= a up to rounding.
    return math.exp(first) * -math.expm1(min(0.0, second - first))


def gaussian_deviation(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the least standard deviation at which Gaussian noise is (epsilon, delta)-differentially private.

    The analytic Gaussian mechanism (Balle and Wang, arXiv:1805.06530, algorithm 1), found by bisection on its exact
    delta and rounded up.  The classical ``D sqrt(2 ln(1.25 / delta)) / epsilon`` is proved for epsilon below 1 alone:
    it has too much noise there, and too little for large ones.

    >>> gaussian_deviation(1.0, 1e-5) < math.sqrt(2 * math.log(1.25e5)) / 1.0
    True
    >>> round(gaussian_deviation(1.0, 1e-5), 4)
    3.7306

    Args:
        epsilon: above 0.
        delta: in (0, 1).
        sensitivity: the most that a release changes by, in the Euclidean norm, above 0.

    Raises:
        ValueError: one of them is not.
    """
    _check(epsilon, sensitivity)
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta={delta:g}: it must be above 0 and below 1, such as 1e-5")
    return _least(lambda deviation: gaussian_delta(deviation, epsilon) <= delta) * sensitivity


def _least(enough: Callable[[float], bool]) -> float:
    """Return the least number above 0 that is enough, where all above it are, rounded up."""
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2.0 * high
    while high - low > _TIGHT * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def laplace_scale(epsilon: float, sensitivity: float = 1.0) -> float:
    """Return the scale b of Laplace noise, of density ``exp(-|x| / b) / 2b``, that is epsilon-differentially private.

    >>> laplace_scale(epsilon=2.0, sensitivity=1.0)
    0.5

    Args:
        epsilon: above 0.
        sensitivity: the most that a release changes by, in the L1 norm, above 0.
    """
    _check(epsilon, sensitivity)
    return sensitivity / epsilon


def _check(epsilon: float, sensitivity: float) -> None:
    for name, value in {"epsilon": epsilon, "sensitivity": sensitivity}.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name}={value:g}: it must be above 0")


@dataclass(frozen=True)
class Randomizer:
    """The randomizer of a client: a clip, and noise for it, before anything is sent.

    >>> import numpy as np
    >>> rows = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
    >>> one = Randomizer.calibrated("gaussian", epsilon=8.0, delta=1e-5, norm=1.0)
    >>> one.noised(rows, [np.zeros, np.zeros])  # the clip, as this is no noise
    tensor([[0.6000, 0.8000],
            [0.0000, 0.5000]])
    >>> one.noised(rows, [np.random.default_rng(client).standard_normal for client in range(2)])
    tensor([[0.7510, 0.6414],
            [0.4149, 1.4864]])
    >>> one.multiplier, round(one.spread, 3)
    (0.6003, 1.201)

    Args:
        mechanism: ``gaussian``, for a Euclidean norm, or ``laplace``, which is private at a delta of 0, for an L1 norm.
        multiplier: the standard deviation of ``gaussian`` noise, or the scale of ``laplace``, over the most that a
            client can change what it sends by, which is twice the norm; above 0.
        norm: the largest norm that an update keeps, above 0.
    """

    mechanism: Mechanism = "gaussian"
    multiplier: float = 1.0
    norm: float = 1.0

    @classmethod
    def calibrated(
        cls, mechanism: Mechanism, epsilon: float, delta: float = 1e-5, norm: float = 1.0, participations: int = 1
    ) -> Randomizer:
        """Make the randomizer whose noise is the least, of four digits and rounded up, with which a client may send.

        >>> [Randomizer.calibrated("gaussian", 8.0, participations=k).multiplier for k in (1, 4)]
        [0.6003, 1.201]

        Args:
            mechanism: the mechanism.
            epsilon: to be spent in all, above 0.
            delta: in all, in (0, 1); ``laplace`` needs none.
            norm: the largest norm that an update keeps, above 0.
            participations: the number of updates that a client sends, at least 1.

        Raises:
            ValueError: one of them is out of range.
        """
        _check(epsilon, norm)
        if mechanism == "laplace":
            least = participations * laplace_scale(epsilon)
        else:
            # So many releases are one of sqrt(k) times the sensitivity.
            least = math.sqrt(participations) * gaussian_deviation(epsilon, delta)
        digits = 10.0 ** (math.floor(math.log10(least)) - 3)
        return cls(mechanism, float(f"{math.ceil(least / digits - 1e-9) * digits:.4g}"), norm)

    @property
    def order(self) -> float:
        """The order of the norm: 2, or 1 of ``laplace``."""
        return 1.0 if self.mechanism == "laplace" else 2.0

    @property
    def spread(self) -> float:
        """The standard deviation of ``gaussian`` noise, or the scale of ``laplace``; any two updates may be sent."""
        return self.multiplier * 2.0 * self.norm

    @property
    def deviation(self) -> float:
        """The standard deviation of the noise on each value."""
        return self.spread * (math.sqrt(2.0) if self.mechanism == "laplace" else 1.0)

    def clipped(self, rows: Tensor) -> Tensor:
        """Return updates ``[C, k]`` clipped, float64; one that is not finite counts as zeros."""
        return clip_to(rows, self.norm, self.order).double()

    def noise(self, draw: Normal, count: int) -> Floats:
        """Return the noise on an update of so many values, float64, by a client's normal draws."""
        found: Floats = self.spread * (_laplace(draw, count) if self.mechanism == "laplace" else draw(count))
        return found

    def noised(self, rows: Tensor, draws: Sequence[Normal]) -> Tensor:
        """Return updates ``[C, k]`` clipped and noised, float32.

        Args:
            rows: the updates, not to be changed.
            draws: the normal draws of each client.
        """
        clipped = self.clipped(rows)
        for row, draw in zip(clipped, draws, strict=True):
            row.add_(torch.from_numpy(self.noise(draw, len(row))).to(row.device))
        return clipped.float()

    def release(self, count: int = 1) -> Release:
        """Return so many releases of a client, as they are accounted for."""
        kind: ReleaseMechanism = "laplace" if self.mechanism == "laplace" else "independent"
        return Release(self.multiplier, 1.0, count, "fixed", "replace_one", mechanism=kind)

    def spent(self, participations: int, delta: float = 1e-5) -> float:
        """Return the epsilon of a client that has taken part so often, at ``delta`` in all.

        Gaussian releases compose to one of ``sqrt(k)`` times the sensitivity, exactly; epsilons of Laplace ones add up.

        >>> one = Randomizer.calibrated("gaussian", epsilon=1.0, delta=1e-5)
        >>> round(one.spent(1), 4), round(one.spent(100), 2), one.spent(0)
        (0.9999, 14.43, 0.0)
        >>> Randomizer.calibrated("laplace", epsilon=1.0).spent(3)
        3.0

        Args:
            participations: k >= 0.
            delta: in (0, 1).
        """
        return composed([self.release(participations)], delta)


def composed(releases: Iterable[Release], delta: float) -> float:
    """Return the epsilon of releases of one client, none of them of a sample, at ``delta``.

    Gaussian ones of the multipliers z_i are exactly one of ``(sum_i z_i^-2)^(-1/2)``, at its exact delta; the epsilons
    1 / z_i of Laplace ones add up, and are added to that.

    >>> once = Release(2.0, sampling="fixed", relation="replace_one")
    >>> composed([once, once], 1e-5) == composed([Release(math.sqrt(2.0))], 1e-5)
    True
    >>> composed([], 1e-5)
    0.0

    Args:
        releases: at the rate 1.
        delta: in (0, 1).

    Raises:
        ValueError: a rate is below 1.
    """
    pure, inverse = 0.0, 0.0
    for each in releases:
        if each.rate != 1.0:
            raise ValueError(f"rate={each.rate:g}: a closed form is for who takes part for certain")
        if each.mechanism == "laplace":
            pure += each.count / each.noise_multiplier
        else:
            inverse += each.count / each.noise_multiplier**2
    return pure + (_of_gaussian(inverse**-0.5, delta) if inverse else 0.0)


def _of_gaussian(multiplier: float, delta: float) -> float:
    if gaussian_delta(multiplier, 0.0) <= delta:
        return 0.0
    return _least(lambda epsilon: gaussian_delta(multiplier, epsilon) <= delta)


def _laplace(draw: Normal, count: int) -> Floats:
    """Return standard Laplace draws: differences of two exponential ones, each half the sum of two squared normals."""
    squares = np.square(draw(4 * count)).reshape(4, count)
    found: Floats = 0.5 * (squares[0] + squares[1] - squares[2] - squares[3])
    return found
