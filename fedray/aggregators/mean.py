"""The weighted mean, streamed: memory O(P) wherever it is formed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.exact import LIMIT, WIDE_LIMIT, add_rounded, add_wide, carry, in_range, joined, values
from fedray.core.messages import BUFFERS, SHARE, STATISTICS, VECTOR, Aggregate, BlockUpdate, Parts
from fedray.core.now import Now

_WIDE = {name: f"{name}.coarse" for name in (BUFFERS, STATISTICS)}
"""Parts that may hold numbers of any usual magnitude, each with the second tensor of its accumulator."""


@aggregators.register("mean")
@dataclass(frozen=True)
class Mean(Aggregator):
    """Weighted mean ``sum_i w_i delta_i / sum_i w_i`` of accepted clients (FedAvg, McMahan et al., arXiv:1602.05629).

    Inside a block the rows are summed in float32 in a fixed order, with weights divided by the cohort's planned total;
    between blocks the sum is exact (see ``fedray.aggregators.exact``).  A client whose update of a trained
    parameter is 65,536 or more is left out, as training diverges; statistics of inputs on a raw scale may change by
    2**60.

    >>> import numpy as np
    >>> delta, weight = torch.tensor([[0.0, 4.0], [8.0, 0.0]]), np.array([10.0, 30.0])
    >>> update = BlockUpdate(1, np.array([4, 7]), {"delta": delta}, {}, weight, np.zeros(2), np.array([10, 30]))
    >>> total = Mean().zero({"delta": 2}, "cpu")
    >>> Mean().add(total, update, weight=40.0)
    >>> Mean().finish(total, weight=40.0, planned=40.0, count=2, now=Now(seed=1, round=1)).parts
    {'delta': tensor([6., 1.])}
    """

    def widths(self, sent: Mapping[str, int]) -> Mapping[str, int]:
        """Add a second tensor for buffers and statistics: whole multiples of UNIT."""
        return {**sent, **{coarse: sent[name] for name, coarse in _WIDE.items() if name in sent}}

    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Return float64 zeros, one vector for each part, which count steps of the grid."""
        return {name: torch.zeros(width, dtype=torch.float64, device=device) for name, width in widths.items()}

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Fold one block."""
        shares, slots = update.weight / weight, update.slots
        parts = {name: rows for name, rows in update.parts.items() if name not in slots}
        if len(shares) == 1:
            # Without a vector for the block's sum.
            sums, scale, limit = {name: rows[0] for name, rows in parts.items()}, float(shares[0]), 1.0
        else:
            sums, scale = _weighted(torch.from_numpy(shares.astype(np.float32)), parts), 1.0
            limit = float(shares.sum())
        row = torch.from_numpy((np.ones(1) if len(shares) == 1 else shares).astype(np.float32))
        weights = {name: _placed(row, slot, len(into[name + SHARE])) for name, slot in slots.items()}
        sums |= {name: (placed @ update.parts[name]).flatten() for name, placed in weights.items()}
        for name, total in sums.items():
            _check(name, total, update.parts[name], limit)
        for name, total in sums.items():
            if name in _WIDE:
                add_wide(into[name], into[_WIDE[name]], total, scale)
            else:
                add_rounded(into[name], total, scale)
        for name, placed in weights.items():
            add_rounded(into[name + SHARE], placed.sum(dim=1), scale)

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Add exactly."""
        for name, total in into.items():
            total.add_(other[name])
        for name, coarse in _WIDE.items():
            if coarse in into:
                carry(into[name], into[coarse])

    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Divide by the accepted share of the planned weight; parts become float32."""
        means = {name: values(part, weight / planned) for name, part in self.totals(total).items()}
        shares = {name.removesuffix(SHARE): means.pop(name) for name in total if name.endswith(SHARE)}
        for name, share in shares.items():
            whole = means[name].view(len(share), -1)
            means[name] = torch.where(share[:, None] > 0.0, whole / share[:, None], 0.0)
        return Aggregate(means, weight, count, shares=shares)

    def totals(self, accumulator: Mapping[str, Tensor]) -> Accumulator:
        """Return the sums of the parts in steps of the grid, in the memory of an accumulator, which is used up."""
        total = dict(accumulator)
        for name, second in _WIDE.items():
            if (coarse := total.pop(second, None)) is not None:
                joined(total[name], coarse)
        return total


def _placed(row: Tensor, slot: Tensor, slots: int) -> Tensor:
    """Return the weights ``[C]``, each in the row of its slot, ``[slots, C]``."""
    placed = torch.zeros(slots, len(slot), device=slot.device)
    placed[slot, torch.arange(len(slot), device=slot.device)] = row.to(slot.device)
    return placed


def _weighted(row: Tensor, parts: Parts) -> Parts:
    """Return the weighted sum of the rows of each part."""
    names = [name for name in VECTOR if name in parts]
    sums = {name: row.to(rows.device) @ rows for name, rows in parts.items() if name not in VECTOR}
    if not names:
        return sums
    first, widths = parts[names[0]], [parts[name].shape[1] for name in names]
    places = [first.data_ptr() + start * first.itemsize for start in accumulate(widths, initial=0)]
    if any(parts[name].data_ptr() != place for name, place in zip(names, places, strict=False)):
        return {name: row.to(parts[name].device) @ parts[name] for name in names} | sums
    # Columns of one matrix: the bits of a product depend on how wide that is, and should not on what does not train.
    whole = first.as_strided((len(first), sum(widths)), first.stride())
    return dict(zip(names, (row.to(whole.device) @ whole).split(widths), strict=True)) | sums


def _check(name: str, total: Tensor, rows: Tensor, share: float) -> None:
    limit = WIDE_LIMIT if name in _WIDE else LIMIT
    if in_range(total, share * limit):
        return
    peaks = torch.linalg.vector_norm(rows, ord=float("inf"), dim=1)
    bad = torch.nonzero(~(peaks < limit)).flatten().tolist()
    reason = f"{name} is not finite, or beyond {limit:,.0f} in magnitude"
    raise UpdateOutOfRange(bad or list(range(len(rows))), reason, name)
