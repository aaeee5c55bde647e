"""Coordinate-wise robust aggregators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.aggregators.base import aggregators
from fedray.aggregators.gathered import CoordinateWise, ordered


@aggregators.register("median")
@dataclass(frozen=True)
class Median(CoordinateWise):
    """Coordinate-wise median (Yin et al., arXiv:1803.01498, Definition 1).

    For an even count it is the mean of the middle two.

    >>> Median().reduce(torch.tensor([[1.0], [2.0], [900.0]]))
    tensor([2.])
    """

    def reduce(self, rows: Tensor) -> Tensor:
        """Return the median over dimension 0."""
        values = ordered(rows)
        return (values[(len(rows) - 1) // 2] + values[len(rows) // 2]) / 2


@aggregators.register("trimmed_mean")
@dataclass(frozen=True)
class TrimmedMean(CoordinateWise):
    """Coordinate-wise trimmed mean (Yin et al., arXiv:1803.01498, Definition 2).

    In each coordinate the ``floor(trim * n)`` smallest and as many largest values are left out; the rest is averaged.

    >>> TrimmedMean(trim=0.25).reduce(torch.tensor([[-900.0], [1.0], [2.0], [900.0]]))
    tensor([1.5000])

    Args:
        trim: share cut from each end, in [0, 0.5).
    """

    trim: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.trim < 0.5:
            raise ValueError(f"trim={self.trim}: it must be at least 0 and below 0.5")

    def left_out(self, count: int) -> int:
        """Return ``floor(trim * count)``."""
        return int(self.trim * count)

    def reduce(self, rows: Tensor) -> Tensor:
        """Return the mean over dimension 0 of what remains; sorted first, so the order of the rows does not matter."""
        cut = self.left_out(len(rows))
        return ordered(rows)[cut : len(rows) - cut].mean(dim=0, dtype=torch.float64).to(rows.dtype)
