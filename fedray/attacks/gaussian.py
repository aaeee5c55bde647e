"""Noise in the place of updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedray.attacks.base import Attack, attacks
from fedray.config.bounds import check_above_0


@attacks.register("gaussian")
@dataclass(frozen=True)
class GaussianAttack(Attack):
    """The Gaussian attack (Blanchard et al., arXiv:1703.02757, section 5): an attacker sends ``N(0, std^2)`` alone.

    Drawn on the CPU, for each attacker and round by its name, so that the numbers are the same on every device.

    >>> GaussianAttack(std=3.0).forge(torch.ones(1, 3), torch.tensor([0]), [np.random.default_rng(0)])
    tensor([[ 3.3529, -4.1614, -1.2797]])

    Args:
        std: of each number, above 0; the paper's experiments have 200.
    """

    std: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_0(std=self.std)

    def forge(self, delta: Tensor, lying: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        """Draw for each attacker."""
        size = delta.shape[1]
        noise = np.stack([generator.standard_normal(size, dtype=np.float32) for generator in draws])
        return torch.from_numpy(noise).mul_(self.std).to(delta.device)
