"""Updates that hide among the others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.gathered import column_pieces
from fedray.attacks.base import Attack, attacks


@attacks.register("alie")
@dataclass(frozen=True)
class ALIE(Attack):
    """A Little Is Enough (Baruch et al., arXiv:1902.06156, Algorithm 3): all attackers send ``mean - z * deviation``.

    Mean and standard deviation are those of each coordinate over the cohort's n updates, with attackers' own as they
    found them.  By default z is the largest at which so many honest updates lie further out that together with the m
    attackers they are the majority: ``Phi(z) = (n - m - s) / (n - m)`` with ``s = floor(n / 2 + 1) - m``.

    Deviations: the paper's attackers know their own updates alone, and estimate mean and deviation from these.  Where
    few attack, z would be below 0; it is 0 then, at which they send the mean.  Where they are the majority it is 3.7.

    >>> forged = ALIE(z=1.0).forge(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([1]), [])
    >>> forged
    tensor([[1., 0.]])

    Args:
        z: number of standard deviations from the mean, at least 0; null: by the sizes of cohort and attackers.
    """

    z: float | None = None
    gathers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.z is not None and not self.z >= 0.0:
            raise ValueError(f"z={self.z}: it must be at least 0, or null for the paper's")

    def forge(self, delta: Tensor, lying: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        """Make one update, which all of them send."""
        z = largest_z(len(delta), len(lying)) if self.z is None else self.z
        pieces = []
        for piece in column_pieces(delta):
            deviation, mean = torch.std_mean(piece.double(), dim=0, correction=0)
            pieces.append(mean.sub_(deviation, alpha=z).to(delta.dtype))
        return torch.cat(pieces).expand(len(lying), -1)


def largest_z(cohort: int, lying: int) -> float:
    """Return the paper's z for a cohort's n updates of which m lie.

    >>> round(largest_z(50, 12), 3), largest_z(10, 1), round(largest_z(10, 7), 1)
    (0.336, 0.0, 3.7)
    """
    honest = cohort - lying
    supporters = cohort // 2 + 1 - lying
    share = (honest - supporters) / honest if honest else 1.0
    return NormalDist().inv_cdf(min(max(share, 0.5), 0.9999))
