"""Coordinate-wise robust aggregators: they see every update, so the driver's memory is O(cohort x P)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator, UpdateOutOfRange, aggregators
from fedray.core.messages import Aggregate, BlockUpdate


class Gathered(Aggregator):
    """Base of aggregators over the rows ``[n, k]`` of all accepted updates, each weighing the same.

    An accumulator holds the rows themselves, so it costs 4 * P bytes for each client, on the workers and on the driver.

    >>> class Largest(Gathered):
    ...     def reduce(self, rows):
    ...         return rows.amax(dim=0)
    >>> Largest().reduce(torch.tensor([[1.0, 5.0], [3.0, 2.0]]))
    tensor([3., 5.])
    """

    linear: ClassVar[bool] = False

    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Return no rows."""
        return {name: torch.zeros(0, width, device=device) for name, width in widths.items()}

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Append a block's rows."""
        for name, rows in update.parts.items():
            bad = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten().tolist()
            if bad:
                raise UpdateOutOfRange(bad, f"{name} is not finite", name)
        into.update({name: torch.cat([into[name], rows]) for name, rows in update.parts.items()})

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Append the other rows; their order does not matter to ``reduce``."""
        into.update({name: torch.cat([into[name], other[name]]) for name in into})

    def finish(self, total: Accumulator, weight: float, planned: float, count: int) -> Aggregate:
        """Reduce each part over the clients."""
        return Aggregate({name: self.reduce(rows) for name, rows in total.items()}, weight, count)

    @abstractmethod
    def reduce(self, rows: Tensor) -> Tensor:
        """Reduce ``[n, k]`` to ``[k]``, with the same bits for every order of the rows."""


@aggregators.register("median")
@dataclass(frozen=True)
class Median(Gathered):
    """Coordinate-wise median (Yin et al., arXiv:1803.01498, Definition 1).

    For an even count it is the mean of the middle two.

    >>> Median().reduce(torch.tensor([[1.0], [2.0], [900.0]]))
    tensor([2.])
    """

    def reduce(self, rows: Tensor) -> Tensor:
        """Return the median over dimension 0."""
        ordered = rows.sort(dim=0).values
        return (ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2


@aggregators.register("trimmed_mean")
@dataclass(frozen=True)
class TrimmedMean(Gathered):
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
        ordered = rows.sort(dim=0).values
        return ordered[cut : len(rows) - cut].mean(dim=0, dtype=torch.float64).to(rows.dtype)
