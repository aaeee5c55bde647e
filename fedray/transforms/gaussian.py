"""Gaussian noise on the aggregate, calibrated to the clipping norm."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from fedray.core.messages import Aggregate
from fedray.core.noise import Source, check_installed
from fedray.core.now import Now
from fedray.core.rng import torch_generator
from fedray.transforms.base import Setting, Transform, transforms
from fedray.transforms.clip import Clip


@transforms.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Transform):
    """The Gaussian mechanism of DP-FedAvg: ``(sum_i delta_i + N(0, (multiplier * S)^2)) / m``.

    S is the norm of the ``clip`` that must stand before it, and so the sensitivity of the sum; m is the expected number
    of clients in a cohort (the estimator of fixed denominator of McMahan et al., arXiv:1710.06963, section 3), so that
    what is released does not depend on how many came.  A round in which nobody came gives noise alone.  Drawn once per
    round on the server.  This adds the noise; it does not account for the privacy spent, which the section ``privacy``
    does.

    >>> noise = Gaussian(multiplier=0.5, noise="seeded").prepare(Setting(before=(Clip(norm=2.0),)))
    >>> total = Aggregate({"delta": torch.zeros(3)}, weight=10.0, count=10)
    >>> noise.on_aggregate(total, Now(seed=1, round=1))  # a standard deviation of 0.5 * 2 / 10
    >>> total.parts["delta"]
    tensor([-0.0328,  0.1844,  0.0108])

    Args:
        multiplier: the noise multiplier z >= 0.
        noise: ``secure``: by a key from the operating system, which is forgotten round by round, so that nobody can
            take the noise off; ``seeded``: named by (seed, noise, round), reproducible, and no privacy, as the seed
            stands in the config.
    """

    multiplier: float = 1.0
    noise: Source = "secure"
    needs_uniform: ClassVar[bool] = True
    hides_empty: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.multiplier >= 0.0:
            raise ValueError(f"multiplier={self.multiplier}: the noise multiplier must be at least 0")

    def prepare(self, setting: Setting) -> Transform:
        """Take the sensitivity from the last ``clip`` before it."""
        sensitivity: float | None = None
        for transform in setting.before:
            if isinstance(transform, Gaussian):
                raise ValueError("gaussian stands before it already: say the noise of both in one multiplier")
            if isinstance(transform, Clip):
                sensitivity = transform.norm
            elif transform.enlarges:
                sensitivity = None
        if sensitivity is None:
            raise ValueError(
                "gaussian needs a clip before it: transforms: [{name: clip, norm: 1.0}, {name: gaussian}] "
                "(and no error feedback between the two)"
            )
        if self.noise == "secure":
            check_installed()
        return _Calibrated(self.multiplier, self.noise, sensitivity)


@dataclass(frozen=True)
class _Calibrated(Gaussian):
    """A Gaussian mechanism that knows its sensitivity."""

    sensitivity: float = dataclasses.field(default=0.0)

    def on_aggregate(self, total: Aggregate, now: Now) -> None:
        """Turn the mean ``delta`` ``[D]`` over those who came into one over those expected, and add the noise."""
        delta = total.parts["delta"]
        expected = total.expected or total.count
        if total.count != expected:
            delta.mul_(total.count / expected)
        if self.multiplier == 0.0:
            return
        # Drawn on the CPU, so that the noise is the same on every device.
        if self.noise == "seeded":
            drawn = torch.randn(delta.shape, generator=torch_generator(now.seed, "noise", now.round))
        elif now.noise is None:
            raise RuntimeError("secure noise needs a key, as runs have them")
        else:
            normals = now.noise.of({"delta": delta.detach().cpu().double().numpy()})
            drawn = torch.from_numpy(normals.draw("delta", len(delta))).float()
        delta.add_(drawn.to(delta.device).mul_(self.multiplier * self.sensitivity / expected))
