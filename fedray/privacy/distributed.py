"""Differential privacy from the server as well: clients noise whole numbers, and masks hide all but their sum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from fedray.core.discrete import LARGEST, DiscreteGaussian
from fedray.core.errors import RunFailed
from fedray.core.messages import Aggregate, Parts
from fedray.core.now import Now
from fedray.privacy.accounting import Accountant, multiplier_for
from fedray.privacy.central import NOT_PRIVATE, Central, bounded_widths, groups_of
from fedray.privacy.ledger import Circumstances, Cost, Shared
from fedray.privacy.mechanism import shared_words
from fedray.privacy.participation import Participation
from fedray.privacy.releases import Release
from fedray.transforms.base import Setting
from fedray.transforms.secure.share import Share, SharesNoise, most_square
from fedray.transforms.secure_sum import SecureSum


def inverse_multiplier(change: float, square: int, least: int, most: int, length: int) -> float:
    """Return eps, for which a sum with the noise of some clients is ``eps^2 / 2``-concentrated differentially private.

    ``eps = change / (sqrt(least) sigma) + tau sqrt(length)`` with
    ``tau = 10 sum_(k < most) exp(-2 pi^2 sigma^2 k / (k + 1))``: the sum of discrete Gaussians is none, and tau is what
    that costs (Kairouz, Liu and Steinke, arXiv:2102.06387, proposition 14, the third of its bounds, which is never
    below the least of them).  Of a Gaussian it would be the first term.

    >>> inverse_multiplier(change=30.0, square=100, least=9, most=12, length=1000)
    1.0
    >>> round(inverse_multiplier(change=1.5, square=1, least=9, most=12, length=1000), 3)
    0.517

    Args:
        change: the most that one client changes the sum by, in the Euclidean norm.
        square: sigma^2 of each client's noise, at least 1.
        least: the number of clients whose noise counts, at least 1.
        most: the largest number of clients whose noise may be in the sum.
        length: of the sum.
    """
    rates = (-2.0 * math.pi**2 * square * k / (k + 1) for k in range(1, most))
    tau = 10.0 * math.fsum(math.exp(rate) for rate in rates)
    return change / math.sqrt(least * square) + tau * math.sqrt(length)


def least_square(multiplier: float, change2: int, least: int, most: int, length: int) -> int:
    """Return the least sigma^2 of a client's noise, as it can be drawn, with which a sum is as private as one of z.

    Beyond 2^48 none can be drawn, and the number is a lower bound.

    Args:
        multiplier: z: the sum is to be ``1 / (2 z^2)``-concentrated differentially private.
        change2: the square of the most that one client changes the sum by.
        least: the number of clients whose noise counts, at least 1.
        most: the largest number of clients whose noise may be in the sum.
        length: of the sum.
    """
    square = math.ceil(Fraction(multiplier) ** 2 * change2 / least)
    while square <= LARGEST:
        square = DiscreteGaussian.at_least(square).square
        # The share of a rounding of float64, by which the bound may be told too low.
        told = inverse_multiplier(math.sqrt(change2), square, least, most, length) * (1.0 + 1e-12)
        if told * multiplier <= 1.0:
            return square
        square += max(1, square >> 40)
    return square


@dataclass(frozen=True)
class Distributed(Central, SharesNoise):
    """The distributed discrete Gaussian mechanism (Kairouz, Liu and Steinke, arXiv:2102.06387), in a secure sum's ring.

    Each client clips all that it sends to C, as one vector, and the secure sum makes whole numbers q_i of it, whose
    Euclidean norm is at most B (:func:`~fedray.transforms.secure.share.most_square`), exactly.  Before its masks go on,
    it adds a share of noise to each, a discrete Gaussian of the parameter sigma^2
    (:class:`~fedray.core.discrete.DiscreteGaussian`).  What the server opens is ``sum_i (q_i + x_i)``, never a sum
    without noise; all after that is a function of it: times step / n, for the n clients that are expected.

    One client changes the sum of the q_i by f B at most, and the noise that counts is that of the
    ``ceil(threshold n) - floor(corrupt n)`` clients without which nothing is opened, or who might tell the server
    theirs: sigma^2 is the least with which that much makes the sum ``1 / (2 z^2)``-concentrated differentially private
    (:func:`inverse_multiplier`).  So the noise of all is larger than that of a trusted server of the same z.

    Deviations from the paper: no random rotation, as rings of up to 64 bits need none; sums are divided by the number
    expected.  The server knows who takes part in a round, and so draws gain nothing.

    Args:
        privacy: the section.
        made: the share of each client, once prepared.
        clients: the largest number of them in a cohort.
        counted: the number of clients whose noise counts.
        step: of the whole numbers.
        corrupt: the share of a cohort that may work with the server.
    """

    made: Share | None = None
    clients: int = 1
    counted: int = 1
    step: float = 1.0
    corrupt: float = 0.0

    @property
    def accountant(self) -> Accountant:
        """``rdp``, whatever the section has: concentrated privacy is no distribution of losses."""
        return "rdp"

    @property
    def share(self) -> Share:
        """The share of each client."""
        assert self.made is not None
        return self.made

    @property
    def words(self) -> Iterator[str]:
        """The lines for the head of the log: the protection, and its price."""
        what = ", ".join(self.parts)
        together = "" if len(self.parts) == 1 else ", as one vector,"
        yield (
            f"privacy: {what} of each client{together} clipped to {self.privacy.norm:g}; each adds a discrete Gaussian "
            f"of sigma {math.sqrt(self.share.square):.6g} to its whole numbers, in steps of {self.step:.3g}: the "
            f"server sees no sum without noise; noise multiplier {self.multiplier:g} over {self.cohorts.factor:g} "
            f"times the clip, by the noise of {self.counted:,} clients; neighbours are {self.cohorts.neighbouring}; "
            f"sums divided by {self.expected:g} clients whoever comes"
        )
        if self.noise == "seeded":
            yield f"privacy: {NOT_PRIVATE}"

    def release(self, round: int = 1) -> Release:
        """Return the release of a round, as one that all have part in whose turn it is: the server knows who has."""
        once = self.cohorts.release(self.multiplier, round)
        return replace(once, rate=1.0, mechanism="discrete")

    def deviation(self, round: int, bound: float | None = None) -> float:
        """Return the standard deviation of the noise on each entry of the mean of a round in which nobody is lost."""
        return self._deviation(self.clients)

    def _deviation(self, count: float) -> float:
        return math.sqrt(count * self.share.square) * self.step / self.expected

    def prepare(self, setting: Setting) -> Distributed:
        """Find what is clipped, and the share of the noise that each client adds.

        Raises:
            ValueError: there is no secure sum, or clients take part in a way that is not accounted for.
        """
        secure = setting.ring
        if not isinstance(secure, SecureSum):
            raise ValueError(
                "model=distributed: clients add their noise to whole numbers that a secure sum adds up: give "
                "transforms: [{name: secure_sum, bits: 20, range: 1}], or take model: central or local"
            )
        cohorts = self._cohorts(setting)
        widths = bounded_widths(setting)
        length, section, grid = sum(widths.values()), self.privacy, secure.grid
        norm2 = most_square(grid, section.norm, length)
        change2 = norm2 * int(cohorts.factor) ** 2
        most = setting.sampler.most(setting.sizes)
        sizes = {max(2, math.floor(cohorts.expected)), max(2, most)}
        least = min(secure.least_of(size) - math.floor(secure.corrupt * size) for size in sizes)
        multiplier = section.noise_multiplier
        if multiplier is None:
            assert section.epsilon is not None
            kind = replace(cohorts.release(1.0), rate=1.0, mechanism="discrete")
            multiplier = multiplier_for(section.epsilon, kind, setting.rounds, section.delta, "rdp")
        square = least_square(multiplier, change2, least, max(2, most), length)
        if square > LARGEST:
            raise ValueError(
                f"norm={section.norm:g}: noise over so many steps of secure_sum is beyond what is drawn exactly: take "
                f"bits of at most {grid.bits - math.ceil(math.log2(square / LARGEST) / 2)}, which noise hides in any "
                "case"
            )
        return replace(
            self,
            multiplier=multiplier,
            cohorts=cohorts,
            groups=tuple(groups_of(widths, None)),
            made=Share(norm2, square),
            clients=most,
            counted=least,
            step=grid.step,
            corrupt=secure.corrupt,
        )

    def _cohorts(self, setting: Setting) -> Participation:
        found = Participation.of(setting.sampler, setting.sizes, self.privacy.relation)
        if found.sampling == "poisson":
            raise ValueError(
                "model=distributed: whoever adds up masked updates knows who takes part, so that nothing is gained by "
                "coins, and cohorts differ in size, with which shares of noise would: take the sampler uniform, "
                "separated, round_robin or full"
            )
        return replace(found, seen=True)

    def before_opening(self, sums: Parts, now: Now) -> None:
        """Write the release down, before the server sees more of it than masks.

        It is known by what is masked, of which the sum is a function: the same again is the same release.
        """
        assert now.noise is not None
        # Named as no part is.
        came = {"": np.array(now.clients, dtype=np.float64)}
        bits = {name: total.detach().cpu().numpy().view(np.float64) for name, total in sums.items()}
        deviation = self._deviation(len(now.clients))
        told = Circumstances(self.expected, self.privacy.norm, deviation, shared=self._shared)
        now.noise.of(came | bits, Cost(self.release(now.round), told))

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float]:
        """Turn means over those who came into ones over those expected."""
        if not total.count:
            raise RunFailed(f"round {now.round}: privacy: nobody came, and so nobody added any noise")
        share, deviation = total.count / self.expected, self._deviation(total.count)
        means = {name: total.parts[name].detach().cpu().double().mul_(share).numpy() for name in self.parts}
        for name, mean in means.items():
            total.parts[name].copy_(torch.from_numpy(mean.astype(np.float32)))
        energy, noise = sum(float(mean @ mean) for mean in means.values()), sum(map(len, means.values())) * deviation**2
        return {
            **({"not_private": 1.0} if self.noise == "seeded" else {}),
            "noise_multiplier": self.multiplier,
            "clip": self.privacy.norm,
            "noise_std": deviation,
            "signal_to_noise": math.sqrt(max(0.0, energy - noise) / noise),
        }

    @property
    def _shared(self) -> Shared:
        return Shared(self.cohorts.rate, self.share.square, self.share.most, self.step, self.counted, self.corrupt)

    @property
    def mechanism(self) -> str:
        """The mechanism in words that a reviewer can use."""
        return shared_words(self._shared)
