"""Local differential privacy: what leaves a client is noised by the client, and nobody need be trusted.

Two clients, or one with other rows, may send any two updates, so that what is released changes by up to twice the norm
that they are clipped to: sensitivities here are that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Floats
from fedray.local.clipping import clip_to

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
    >>> one = Randomizer("gaussian", epsilon=8.0, delta=1e-5, norm=1.0)
    >>> one.noised(rows, [np.zeros, np.zeros])  # the clip, as this is no noise
    tensor([[0.6000, 0.8000],
            [0.0000, 0.5000]])
    >>> one.noised(rows, [np.random.default_rng(client).standard_normal for client in range(2)])
    tensor([[0.7509, 0.6414],
            [0.4149, 1.4863]])
    >>> round(one.spread, 3)
    1.2

    Args:
        mechanism: ``gaussian``, which is (epsilon, delta)-private for a Euclidean norm, or ``laplace``, which is
            epsilon-private for an L1 norm.
        epsilon: of one release, one participation of a client, above 0.
        delta: of one release, in (0, 1); of ``laplace`` it is 0 whatever stands here.
        norm: the largest norm that an update keeps, above 0.
    """

    mechanism: Mechanism = "gaussian"
    epsilon: float = 8.0
    delta: float = 1e-5
    norm: float = 1.0

    @property
    def spread(self) -> float:
        """The standard deviation of ``gaussian`` noise, or the scale of ``laplace``; any two updates may be sent."""
        if self.mechanism == "laplace":
            return laplace_scale(self.epsilon, 2.0 * self.norm)
        return gaussian_deviation(self.epsilon, self.delta, 2.0 * self.norm)

    def noised(self, rows: Tensor, draws: Sequence[Normal]) -> Tensor:
        """Return updates ``[C, k]`` clipped and noised, float32; one that is not finite counts as zeros.

        Args:
            rows: the updates, not to be changed.
            draws: the normal draws of each client.
        """
        order, spread = 1.0 if self.mechanism == "laplace" else 2.0, self.spread
        clipped = clip_to(rows, self.norm, order).double()
        for row, draw in zip(clipped, draws, strict=True):
            noise = _laplace(draw, len(row)) if self.mechanism == "laplace" else draw(len(row))
            row.add_(torch.from_numpy(spread * noise).to(row.device))
        return clipped.float()

    def spent(self, participations: int, delta: float | None = None) -> float:
        """Return the epsilon of a client that has taken part so often, at ``delta`` in all.

        Gaussian releases compose to one of ``sqrt(k)`` times the sensitivity, exactly; epsilons of Laplace ones add up.

        >>> one = Randomizer("gaussian", epsilon=1.0, delta=1e-5)
        >>> round(one.spent(1), 6), round(one.spent(100), 2), one.spent(0)
        (1.0, 14.43, 0.0)
        >>> Randomizer("laplace", epsilon=1.0).spent(3)
        3.0

        Args:
            participations: k >= 0.
            delta: default: that of one release.
        """
        if participations == 0 or self.mechanism == "laplace":
            return participations * self.epsilon
        target, ratio = self.delta if delta is None else delta, self.spread / (2.0 * self.norm)
        ratio /= math.sqrt(participations)
        return 0.0 if gaussian_delta(ratio, 0.0) <= target else _least(lambda e: gaussian_delta(ratio, e) <= target)


def _laplace(draw: Normal, count: int) -> Floats:
    """Return standard Laplace draws: differences of two exponential ones, each half the sum of two squared normals."""
    squares = np.square(draw(4 * count)).reshape(4, count)
    found: Floats = 0.5 * (squares[0] + squares[1] - squares[2] - squares[3])
    return found
