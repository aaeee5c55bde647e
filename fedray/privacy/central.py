"""Differential privacy for clients, by a server that is trusted: one clip and one noise, after all other transforms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.messages import BUFFERS, DELTA, STATISTICS, Aggregate, BlockUpdate, Floats, Parts
from fedray.core.noise import Source
from fedray.core.now import Now
from fedray.privacy.accounting import Accountant, multiplier_for
from fedray.privacy.correlated import Correlation
from fedray.privacy.ledger import Circumstances, Correlated, Cost
from fedray.privacy.mechanism import correlated_words, correlation_of, history, reach_of, standard, whole
from fedray.privacy.norms import norms_above, scale_rows_
from fedray.privacy.participation import Participation
from fedray.privacy.releases import Release
from fedray.privacy.section import Privacy
from fedray.transforms.base import Setting, Transform

BOUND, BELOW = "bound", "below"
"""The norms to clip to, as the server keeps and sends them, and what clients say of theirs: 1/2 if below, else -1/2."""

NOT_PRIVATE = "NOT PRIVATE: noise: seeded draws the noise by the run's seed, by which anybody takes it off again"

Group = tuple[tuple[str, int, int], ...]
"""Columns ``(part, start, stop)`` that are clipped together."""


@dataclass(frozen=True)
class Central(Transform):
    """The Gaussian mechanism on all that clients send: ``(sum_i clip(u_i) + N(0, (z_d f C)^2)) / n``.

    ``u_i`` is what client i sends: its update of the shared trained parameters, and whatever its algorithm sends beside
    it, as one vector (DP-FedAvg of McMahan et al., arXiv:1710.06963, with its estimator of fixed denominator: n is the
    number of clients that a cohort is expected to have, whoever fails or drops out).  One client changes the sum by f C
    at most: f is 2 where neighbours have another client in its place, else 1.  It is clipped by a bound on its norm
    that is above the true one by 2.4e-4 to 7.4e-4 (:func:`~fedray.privacy.norms.norms_above`); a vector that is not
    finite becomes a zero vector, as does one of zeros.  By layers, groups l of columns are clipped to
    ``C_l = C / sqrt(L)`` each.  The noise is drawn once a round on the server, in float64, added to the exact sum, and
    the result rounded to float32.

    With ``mechanism: tree`` or ``banded`` the noise of round t is row t of ``C^-1 z`` (see
    :class:`~fedray.privacy.correlated.Correlation`), scaled so that z is the noise multiplier of all rounds together.

    With ``clip: adaptive`` each C_l follows the quantile gamma of the norms (Andrew et al., arXiv:1905.03871): clients
    also send ``b = 1/2`` where they are below, else ``-1/2``; their sum gets noise of the standard deviation s_b, and
    ``C_l <- C_l exp(-eta (mean(b) + 1/2 - gamma))``.  So that both releases together cost what z alone would, the
    update has ``z_d = (z^-2 - L (s_b / g)^-2)^(-1/2)``.  One client changes the sum of bits by g at most: 1/2 where it
    is there or not, else 1, as one that sends zeros is below.  The paper has one group, L = 1, and g = 1/2.

    Args:
        privacy: the section.
        multiplier: z.
        cohorts: the way in which clients take part.
        correlation: the noise's from round to round; None: it is drawn anew in each.
        groups: the columns that are clipped together.
    """

    privacy: Privacy
    multiplier: float = 0.0
    cohorts: Participation = field(default_factory=Participation)
    correlation: Correlation | None = None
    groups: tuple[Group, ...] = ()

    name: ClassVar[str] = "privacy"
    section: ClassVar[bool] = True
    needs_uniform: ClassVar[bool] = True
    hides_empty: ClassVar[bool] = True
    bounds_all: ClassVar[bool] = True

    @cached_property
    def expected(self) -> float:
        """The number of clients that a cohort is expected to have, by which sums are divided."""
        return self.cohorts.expected

    @property
    def accountant(self) -> Accountant:
        """The accountant by which its releases are counted."""
        return self.privacy.accountant

    @property
    def noise(self) -> Source:
        """The origin of the key of the noise."""
        return self.privacy.noise

    @cached_property
    def adaptive(self) -> bool:
        """True if the norm to clip to follows those of the updates."""
        return self.privacy.clip == "adaptive"

    @cached_property
    def sends(self) -> Mapping[str, int]:
        """The bits of an adaptive clip."""
        return {BELOW: len(self.groups)} if self.adaptive else {}

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The names of all that is clipped."""
        return tuple(dict.fromkeys(name for group in self.groups for name, _, _ in group))

    @property
    def words(self) -> Iterator[str]:
        """The lines for the head of the log: the protection, and its price."""
        what = ", ".join(self.parts)
        together = "" if len(self.parts) == 1 else f"; {what} are clipped together, as one vector"
        kind = f"a quantile of the norms, from {self.privacy.norm:g} on" if self.adaptive else f"{self.privacy.norm:g}"
        yield (
            f"privacy: {what} of each client clipped to {kind}; noise multiplier {self.multiplier:g} over "
            f"{self.cohorts.factor:g} times the clip; neighbours are {self.cohorts.neighbouring}; sampling rate "
            f"{self.cohorts.rate:g}, sums divided by {self.expected:g} clients whoever comes{together}"
        )
        if self.correlation is not None:
            yield f"privacy: {correlated_words(self.correlation)}"
        if self.noise == "seeded":
            yield f"privacy: {NOT_PRIVATE}"

    def release(self, round: int = 1) -> Release:
        """Return the release of a round, update and bits together."""
        once = self._once.after(round - 1)
        return once if self.correlation is None else whole(once, self.correlation, self.cohorts.turns)

    @cached_property
    def _once(self) -> Release:
        return self.cohorts.release(self.multiplier)

    @property
    def _correlated(self) -> Correlated | None:
        if self.correlation is None:
            return None
        return Correlated(self.cohorts.turns, self.cohorts.rate, reach_of(self.correlation))

    def deviation(self, round: int, bound: float | None = None) -> float:
        """Return the standard deviation of the noise on each entry of the mean of a round.

        Args:
            round: its number.
            bound: the norm that it is clipped to; default: the first.
        """
        one = self.of_update * self.cohorts.factor * (self.privacy.norm if bound is None else bound) / self.expected
        if self.correlation is None:
            return one
        return one * self.correlation.sensitivity(self.cohorts.turns) * self.correlation.deviation(round)

    @cached_property
    def _in_each(self) -> Cost | None:
        """The cost of each round, where all cost the same."""
        alike = not self.adaptive and self.correlation is None and self.cohorts.turns == 1
        return self._cost(1, self._bound) if alike else None

    def _cost(self, round: int, bound: float) -> Cost:
        circumstances = Circumstances(self.expected, bound, self.deviation(round, bound), self._correlated)
        return Cost(self.release(round), circumstances)

    @property
    def bit_noise(self) -> float:
        """The standard deviation s_b of the noise on the number of clients below the norm."""
        return self.privacy.bit_noise or self.expected / 20.0

    @property
    def of_update(self) -> float:
        """The noise multiplier z_d of the update, which is larger than z where bits are released as well."""
        if not self.adaptive:
            return self.multiplier
        one = self.cohorts.bit
        left = self.multiplier**-2 - len(self.groups) * (self.bit_noise / one) ** -2
        if left <= 0.0:
            least = self.multiplier * math.sqrt(len(self.groups)) * one
            raise ValueError(
                f"bit_noise={self.bit_noise:g} spends more than a noise multiplier of {self.multiplier:g} allows: it "
                f"must be above {least:g}; say privacy.bit_noise, take larger cohorts, or clip: fixed"
            )
        return float(left**-0.5)

    def prepare(self, setting: Setting) -> Central:
        """Find what is clipped, the noise, and the fixed denominator.

        Raises:
            ValueError: cohorts are drawn in a way that is not accounted for.
        """
        cohorts = Participation.of(setting.sampler, setting.sizes, self.privacy.relation)
        multiplier, section = self.privacy.noise_multiplier, self.privacy
        correlation = correlation_of(section, cohorts, setting.rounds)
        if multiplier is None:
            assert section.epsilon is not None
            kind = cohorts.release(1.0)
            if correlation is not None:
                kind = whole(kind, correlation, cohorts.turns)
            multiplier = multiplier_for(section.epsilon, kind, setting.rounds, section.delta, section.accountant)
        widths = bounded_widths(setting)
        if setting.layout is not None and widths[DELTA] != setting.layout.shared:
            if section.per_layer:
                raise ValueError(
                    "per_layer: clients send a fragment of the model, which has other layers in each round"
                )
            if correlation is not None:
                raise ValueError(
                    f"mechanism={section.mechanism}: clients send another fragment of the model in each round, and "
                    "noise that later rounds take back would not be where it was: take gaussian"
                )
        groups = tuple(groups_of(widths, setting.layout if self.privacy.per_layer else None))
        ready = replace(self, multiplier=multiplier, cohorts=cohorts, correlation=correlation, groups=groups)
        _ = ready.of_update
        return ready

    def start(self) -> Parts:
        """Return the first norms to clip to, where they are not fixed."""
        return {BOUND: self._first} if self.adaptive else {}

    def broadcast(self, now: Now) -> Parts:
        """Tell clients the norms to clip to, where they are not fixed."""
        return {BOUND: now.state[BOUND]} if self.adaptive else {}

    @cached_property
    def _fixed(self) -> list[float]:
        return [float(bound) for bound in self._first.double()]

    @cached_property
    def _bound(self) -> float:
        return float(self._first.double().norm())

    @property
    def _first(self) -> Tensor:
        count = max(1, len(self.groups))
        return torch.full((count,), self.privacy.norm / math.sqrt(count), dtype=torch.float32)

    def on_clients(self, update: BlockUpdate) -> None:
        """Clip the rows of all that clients send."""
        bounds = update.received[BOUND].double().tolist() if self.adaptive else self._fixed
        parts, whole = update.parts, not self.privacy.per_layer
        columns = [[parts[name] if whole else parts[name][:, a:b] for name, a, b in group] for group in self.groups]
        bounded = [norms_above(group) for group in columns]
        if not math.isfinite(sum(norms.largest for norms in bounded)):
            finite = np.logical_and.reduce([np.isfinite(norms.each) for norms in bounded])
            bounded = [norms.of_zeros_but(finite) for norms in bounded]
            for name in self.parts:
                update.parts[name][torch.from_numpy(~finite)] = 0.0
        for group, norms, bound in zip(columns, bounded, bounds, strict=True):
            if not norms.largest <= bound:
                scale_rows_(group, norms.each, bound)
        if self.adaptive:
            above = np.stack([norms.each for norms in bounded], axis=1) > bounds
            below = torch.from_numpy(np.where(above, np.float32(-0.5), np.float32(0.5)))
            update.parts[BELOW] = below.to(update.parts[DELTA].device)

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float]:
        """Turn means over those who came into noised ones over those expected; move the norm to clip to."""
        assert now.noise is not None
        bound = float(now.state[BOUND].double().norm()) if self.adaptive else self._bound
        share = total.count / self.expected
        names = [*self.parts, *self.sends]
        means: dict[str, Floats] = {n: total.parts[n].numpy(force=True) * np.float64(share) for n in names}
        cost = self._in_each or self._cost(now.round, bound)
        assert cost.circumstances is not None
        deviation = cost.circumstances.noise_std
        normals = now.noise.of(means | history(self.correlation, now.noise), cost)
        drawn = standard(self.correlation, now.noise, {name: len(means[name]) for name in self.parts}, normals)
        told = {"not_private": 1.0} if self.noise == "seeded" else {}
        told |= {"noise_multiplier": self.multiplier, "clip": bound, "noise_std": deviation}
        energy, count = 0.0, 0
        for name in self.parts:
            noised = drawn[name]
            noised *= deviation
            noised += means[name]
            energy, count = energy + float(noised @ noised), count + len(noised)
            total.parts[name].copy_(torch.from_numpy(noised))
        # Of what is released, as the aggregate before the noise is nobody's business.
        noise = count * deviation**2
        if count:  # where all of a model stays with its clients, nothing of one is released
            told["signal_to_noise"] = math.sqrt(max(0.0, energy - noise) / noise)
        if self.adaptive:
            bits = normals.draw(BELOW, len(self.groups)) * self.bit_noise / self.expected
            below = means[BELOW] + bits + 0.5
            step = np.exp(-self.privacy.clip_lr * (below - self.privacy.quantile))
            now.state[BOUND] = (now.state[BOUND].double() * torch.from_numpy(step)).float()
            told["clipped"] = min(1.0, max(0.0, 1.0 - float(below.mean())))
        return told


def bounded_widths(setting: Setting) -> dict[str, int]:
    """Return the lengths of all that a client sends and that is clipped, by name.

    Raises:
        ValueError: clients also send what no noise would hide.
    """
    if STATISTICS in setting.sends:
        raise ValueError(
            "statistics of layers that stay with clients are sent for evaluations, without any noise: take a model "
            "without them, such as one with GroupNorm, or evaluate nothing"
        )
    names = [name for name in setting.sends if name != BUFFERS and not name.startswith("trans")]
    return {name: setting.sends[name] for name in names}


def groups_of(widths: Mapping[str, int], layout: Layout | None) -> Iterable[Group]:
    """Return the columns that are clipped together: all, or by a layout those of each module, and each other part."""
    if layout is None:
        yield tuple((name, 0, width) for name, width in widths.items())
        return
    modules: dict[str, list[tuple[str, int, int]]] = {}
    for entry in layout.parameters:
        if entry.region == "shared":
            modules.setdefault(entry.name.rpartition(".")[0], []).append((DELTA, entry.start, entry.stop))
    yield from (tuple(group) for group in modules.values())
    yield from (((name, 0, width),) for name, width in widths.items() if name != DELTA)
