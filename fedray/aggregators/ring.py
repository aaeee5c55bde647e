"""The sum of updates that are whole numbers: modulo 2**64, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator
from fedray.config.registry import name_of
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.now import Now
from fedray.transforms.base import Transform


@dataclass(frozen=True)
class RingSum(Aggregator):
    """The sum of rows of int64 modulo 2**64, which nobody reads before a transform opens it.

    A run has it in the place of the mean where a transform leaves updates in a ring
    (:attr:`fedray.transforms.Transform.in_ring`).  Every client counts the same.

    >>> import numpy as np
    >>> from fedray.transforms import Transform
    >>> ring, one = RingSum(Transform()), np.ones(2)
    >>> total = ring.zero({"delta": 1}, "cpu")
    >>> rows = torch.tensor([[2**63 - 1], [2]])
    >>> ring.add(total, BlockUpdate(1, np.arange(2), {"delta": rows}, {}, one, one, one), weight=2.0)
    >>> total["delta"].item() == 2**63 + 1 - 2**64
    True

    Args:
        transform: opens the sum.
    """

    transform: Transform
    dtype: ClassVar[torch.dtype] = torch.int64
    weighted: ClassVar[bool] = False
    remedy: ClassVar[str] = "take a lower threshold, larger cohorts, or a lower failures.dropout"

    @property
    def least(self) -> int:
        """2, as the sum of one is its update."""
        return 2

    @property
    def words(self) -> str:
        """The transform, for a message."""
        return f"transforms: {name_of(self.transform)}"

    def least_of(self, sampled: int) -> int:
        """Return the number of clients of a cohort without which the transform opens no sum."""
        return max(self.least, self.transform.least_of(sampled))

    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Return int64 zeros, one vector for each part."""
        return {name: torch.zeros(width, dtype=torch.int64, device=device) for name, width in widths.items()}

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Fold one block."""
        for name, total in into.items():
            rows = update.parts[name]
            if rows.dtype != torch.int64:
                raise TypeError(f"{name} of a block is {rows.dtype}: only whole numbers of the ring are added up")
            total.add_(rows.sum(dim=0).to(total.device))

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Add modulo 2**64."""
        for name, total in into.items():
            total.add_(other[name])

    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Let the transform open the sum."""
        return Aggregate(self.transform.opened(dict(total), now), weight, count)
