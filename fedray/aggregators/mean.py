"""The weighted mean, streamed: memory O(P) wherever it is formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import inf

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.exact import (
    GRID,
    LIMIT,
    WIDE_LIMIT,
    add_change,
    add_rounded,
    add_wide,
    carry,
    in_range,
    joined,
    values,
)
from fedray.aggregators.short import SHORT_ROOM, ShortSum, pays
from fedray.core.messages import BUFFERS, DELTA, SHARE, STATISTICS, VECTOR, Aggregate, BlockUpdate, Floats, Parts
from fedray.core.now import Now

_SHORT = ".short"
"""The name of the share of the weight in an accumulator that has short sums, as a tensor ``[1]``."""

_PIECES = ".wide"
"""The end of the name of the tensor that says which pieces of a short sum are wide."""

Form = tuple[dict[str, list[bool]], float]
"""The pieces that are wide of each short sum, and the share of the weight that is in them."""

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

    @property
    def subtracts(self) -> bool:
        """True where ``add`` is this one: another may look at updates itself."""
        return type(self).add is Mean.add

    def widths(self, sent: Mapping[str, int]) -> Mapping[str, int]:
        """Add a second tensor for buffers and statistics: whole multiples of UNIT."""
        return {**sent, **{coarse: sent[name] for name, coarse in _WIDE.items() if name in sent}}

    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Return float64 zeros, one vector for each part, which count steps of the grid; large ones on a CPU short."""
        # Those of numpy, unlike torch's, take no memory before they are written to; none at all have no stride.
        zeros = {name: torch.from_numpy(np.zeros(width + 1))[:width] for name, width in widths.items()}
        memory = {name: part.to(device) for name, part in zeros.items()}
        return self.formed(memory, self._empty(memory))

    def clear(self, memory: Accumulator) -> Accumulator:
        """Return zeros in the memory of an accumulator."""
        total = self.formed(memory, self._empty(memory))
        for name, part in memory.items():
            if (short := _short(total, name)) is None:
                part.zero_()
            else:
                short.clear()
        return total

    def form(self, accumulator: Accumulator) -> Form | None:
        """Return which pieces of short sums are wide, and the share of the weight in them; None: no sum is short."""
        if _SHORT not in accumulator:
            return None
        pieces = {name: part for name, part in accumulator.items() if name.endswith(_PIECES)}
        return {n.removesuffix(_PIECES): p.tolist() for n, p in pieces.items()}, float(accumulator[_SHORT])

    def formed(self, memory: Accumulator, form: Form | None) -> Accumulator:
        """Return the accumulator of a form in its memory."""
        if form is None:
            return memory
        pieces, share = form
        wide = {name + _PIECES: torch.tensor(found) for name, found in pieces.items()}
        return {**memory, **wide, _SHORT: torch.tensor([share], dtype=torch.float64)}

    def filled(self, accumulator: Accumulator) -> Accumulator:
        """Return float64 sums, all pieces of which are wide from now on."""
        _widen(accumulator)
        return _sums(accumulator)

    def _empty(self, memory: Accumulator) -> Form | None:
        """Return the form of an accumulator of nothing: large sums are short.

        Not so what may be of any magnitude, or is in slots, nor what another class adds up.
        """
        own = type(self)
        if (own.add, own.merge, own.finish) != _OWN:
            return None
        apart = {*_WIDE, *_WIDE.values(), *(name.removesuffix(SHARE) for name in memory if name.endswith(SHARE))}
        large = {name: part for name, part in memory.items() if name not in apart and pays(part)}
        return ({name: ShortSum.of(part).wide.tolist() for name, part in large.items()}, 0.0) if large else None

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Fold one block."""
        shares, slots, start = update.weight / weight, update.slots, update.start
        apart = slots if start is None else {DELTA, *slots}
        parts = {name: rows for name, rows in update.parts.items() if name not in apart}
        sums, scale = _summed(shares, parts)
        limit = 1.0 if len(shares) == 1 else float(shares.sum())
        placed = list(_by_slot(shares, update))
        for name, total in (*sums.items(), *((name, total) for name, _, total in placed)):
            _check(name, total, update.parts[name], limit)
        _take(into, float(shares.sum()))
        if start is not None:
            whole = _short(into, DELTA)
            change = update.parts[DELTA][0], start, scale
            if not (add_change(into[DELTA], *change) if whole is None else whole.add_change(*change)):
                raise _out_of_range(DELTA, LIMIT, [0])
        for name, total in sums.items():
            if name in _WIDE:
                add_wide(into[name], into[_WIDE[name]], total, scale)
            elif (short := _short(into, name)) is not None:
                short.add(total, scale, limit)
            else:
                add_rounded(into[name], total, scale)
        for name, place, total in placed:
            first = place * len(total)
            add_rounded(into[name][first : first + len(total)], total, scale)
        for name, slot in slots.items():
            into[name + SHARE].index_add_(0, slot, (torch.from_numpy(shares) / GRID).round_().to(slot.device))

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Add exactly."""
        _take(into, float(other[_SHORT]) if _SHORT in other else inf)
        for name, total in _sums(into).items():
            short, theirs = _short(into, name), _short(other, name)
            if short is None:
                total.add_(other[name] if theirs is None else theirs.filled())
            else:
                short.merge(other[name] if theirs is None else theirs)
        for name, coarse in _WIDE.items():
            if coarse in into:
                carry(into[name], into[coarse])

    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Divide by the accepted share of the planned weight; parts become float32."""
        short = {name: found for name in total if (found := _short(total, name)) is not None}
        sums = self.totals({name: part for name, part in total.items() if name not in short})
        weights = {name.removesuffix(SHARE): sums.pop(name) for name in list(sums) if name.endswith(SHARE)}
        # A slot that has everybody has a share of exactly 1, so that its mean is that of a part without slots, bitwise.
        shares = {name: each / each.sum() for name, each in weights.items()}
        means = {name: _within(sums.pop(name), weight / planned, share) for name, share in shares.items()}
        means |= {name: values(part, weight / planned) for name, part in sums.items()}
        means |= {name: found.values(weight / planned) for name, found in short.items()}
        return Aggregate(means, weight, count, shares={name: share.float() for name, share in shares.items()})

    def totals(self, accumulator: Mapping[str, Tensor]) -> Accumulator:
        """Return the sums of the parts in steps of the grid, in the memory of an accumulator, which is used up."""
        total = _sums(accumulator)
        for name, second in _WIDE.items():
            if (coarse := total.pop(second, None)) is not None:
                joined(total[name], coarse)
        return total


_OWN = Mean.add, Mean.merge, Mean.finish


def _sums(accumulator: Mapping[str, Tensor]) -> Accumulator:
    """Return the tensors of an accumulator without those that say how they are short."""
    return {name: part for name, part in accumulator.items() if name != _SHORT and not name.endswith(_PIECES)}


def _short(accumulator: Mapping[str, Tensor], name: str) -> ShortSum | None:
    """Return a sum of an accumulator; None: it is not short."""
    wide = accumulator.get(name + _PIECES)
    return None if wide is None else ShortSum(accumulator[name], wide)


def _take(into: Accumulator, share: float) -> None:
    """Note that a share of the weight comes in; what is short becomes wide where that is more than it has room for."""
    if _SHORT in into and float(into[_SHORT].add_(share)) > SHORT_ROOM:
        _widen(into)


def _widen(into: Accumulator) -> None:
    for name in into:
        if (short := _short(into, name)) is not None:
            short.filled()


def _summed(shares: Floats, parts: Parts) -> tuple[Parts, float]:
    """Return the sum of the rows of each part and the scale that is still to be applied to it."""
    if len(shares) == 1:
        # Without a vector for the block's sum.
        return {name: rows[0] for name, rows in parts.items()}, float(shares[0])
    return _weighted(torch.from_numpy(shares.astype(np.float32)), parts), 1.0


def _by_slot(shares: Floats, update: BlockUpdate) -> Iterator[tuple[str, int, Tensor]]:
    """Return the sum of each slot that a client of the block is in: its part, its place, and the sum ``[k]``.

    It is the sum of all rows, of which those that are in other slots weigh 0.
    """
    for name, slot in update.slots.items():
        # Beside the columns that make one matrix with it, the bits of its sum are those without slots.
        parts = {n: update.parts[n] for n in (VECTOR if name in VECTOR else (name,)) if n in update.parts}
        for place in slot.unique().tolist():
            within = np.where((slot == place).cpu().numpy(), shares, 0.0)
            yield name, place, _summed(within, parts)[0][name]


def _within(total: Tensor, share: float, shares: Tensor) -> Tensor:
    """Return the means within slots ``[slots, k]``, float32, of a sum in steps of the grid; 0 where nobody is."""
    whole = total.view(len(shares), len(total) // len(shares)).mul(GRID).div_(share).div_(shares[:, None])
    return torch.where(shares[:, None] > 0.0, whole, 0.0).float()


def _weighted(row: Tensor, parts: Parts) -> Parts:
    """Return the weighted sum of the rows of each part."""
    names = [name for name in VECTOR if name in parts]
    if len(names) < 2:
        return {name: row.to(rows.device) @ rows for name, rows in parts.items()}
    sums = {name: row.to(rows.device) @ rows for name, rows in parts.items() if name not in VECTOR}
    first, widths = parts[names[0]], [parts[name].shape[1] for name in names]
    places = [first.data_ptr() + start * first.itemsize for start in accumulate(widths, initial=0)]
    if any(parts[name].data_ptr() != place for name, place in zip(names, places, strict=False)):
        return {name: row.to(parts[name].device) @ parts[name] for name in names} | sums
    # Columns of one matrix: the bits of a product depend on how wide that is, and should not on what does not train.
    whole = first.as_strided((len(first), sum(widths)), first.stride())
    return dict(zip(names, (row.to(whole.device) @ whole).split_with_sizes(widths), strict=True)) | sums


def _check(name: str, total: Tensor, rows: Tensor, share: float) -> None:
    limit = WIDE_LIMIT if name in _WIDE else LIMIT
    if in_range(total, share * limit):
        return
    peaks = torch.linalg.vector_norm(rows, ord=float("inf"), dim=1)
    bad = torch.nonzero(~(peaks < limit)).flatten().tolist()
    raise _out_of_range(name, limit, bad or list(range(len(rows))))


def _out_of_range(name: str, limit: float, positions: list[int]) -> UpdateOutOfRange:
    return UpdateOutOfRange(positions, f"{name} is not finite, or beyond {limit:,.0f} in magnitude", name)
