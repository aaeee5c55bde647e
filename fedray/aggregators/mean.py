"""The weighted mean, streamed: memory O(P) wherever it is formed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.exact import LIMIT, add_rounded, in_range, values
from fedray.core.messages import Aggregate, BlockUpdate


@aggregators.register("mean")
@dataclass(frozen=True)
class Mean(Aggregator):
    """``sum_i w_i delta_i / sum_i w_i`` over the accepted clients (FedAvg, McMahan et al., arXiv:1602.05629).

    Inside a block the rows are summed in float32 in a fixed order, with weights divided by the cohort's planned total;
    between blocks the sum is exact (see ``fedray.aggregators.exact``).
    """

    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Float64 zeros, one vector for each part, which count steps of the grid."""
        return {name: torch.zeros(width, dtype=torch.float64, device=device) for name, width in widths.items()}

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Fold one block."""
        shares = update.weight / weight
        if len(shares) == 1:
            # Without a vector for the block's sum.
            sums, scale, limit = {name: rows[0] for name, rows in update.parts.items()}, float(shares[0]), LIMIT
        else:
            row = torch.from_numpy(shares.astype(np.float32))
            sums, scale = {name: row.to(rows.device) @ rows for name, rows in update.parts.items()}, 1.0
            limit = float(shares.sum()) * LIMIT
        for name, total in sums.items():
            _check(name, total, update.parts[name], limit)
        for name, total in sums.items():
            add_rounded(into[name], total, scale)

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Exact addition."""
        for name, total in into.items():
            total.add_(other[name])

    def finish(self, total: Accumulator, weight: float, planned: float, count: int) -> Aggregate:
        """Divide by the accepted share of the planned weight; parts become float32."""
        return Aggregate({name: values(part, weight / planned) for name, part in total.items()}, weight, count)


def _check(name: str, total: Tensor, rows: Tensor, limit: float) -> None:
    if in_range(total, limit):
        return
    peaks = torch.linalg.vector_norm(rows, ord=float("inf"), dim=1)
    bad = torch.nonzero(~(peaks < LIMIT)).flatten().tolist()
    reason = f"{name} is not finite, or beyond {LIMIT:,.0f} in magnitude; lower the learning rate, or scale the data"
    raise UpdateOutOfRange(bad or list(range(len(rows))), reason)
