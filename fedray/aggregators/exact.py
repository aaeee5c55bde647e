"""Sums that depend neither on grouping nor on order.

Adding float64 numbers is exact as long as all of them are whole and every partial sum stays below 2**53.  So what is
added is first rounded to a fixed grid (pre-rounding, as in Demmel & Nguyen, "Fast Reproducible Floating-Point
Summation", ARITH 2013, with one bin), and counted in steps of the grid; after that any order gives the same bits.
"""

from __future__ import annotations

from ctypes import CDLL
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.aggregators.compiled import library

GRID = 2.0**-36
"""One step of the grid, 1.5e-11: below the float32 spacing of any entry above 1.2e-4."""

LIMIT = 2.0**16
"""Largest magnitude of a block's weighted mean, and so of the cohort's; sums stay exact up to 2 * LIMIT."""

_CACHED = 1 << 16
"""Entries that fit a core's cache."""

_PIECE = 1 << 15
"""Entries of five arrays that fit it together."""

UNIT = 2.0**8
"""The number whose whole multiples may be summed apart."""

WIDE_LIMIT = 2.0**60
"""Largest magnitude of a mean whose multiples of UNIT are summed apart."""


def add_rounded(total: Tensor, addend: Tensor, scale: float = 1.0) -> None:
    """Add ``round(scale * addend / GRID)`` to ``total``, ties to even, in cache-sized pieces.

    Args:
        total: steps of the grid, float64 ``[n]``, or int32 where they fit.
        addend: float32 or float64 ``[n]``; ``scale`` times its magnitudes are below LIMIT.
        scale: the product is rounded to float64 first.
    """
    if total.device.type != "cpu":
        total.add_(addend.to(torch.float64, copy=True).mul_(scale / GRID).round_())
        return
    # A call of numpy takes half as long as one of torch, and cuts pieces without a call.
    sums, addends = total.numpy(), addend.detach().numpy()
    for first in range(0, len(sums), _PIECE):
        place = slice(first, first + _PIECE)
        steps = addends[place].astype(np.float64)
        np.multiply(steps, scale / GRID, out=steps)
        sums[place] += np.rint(steps, out=steps).astype(sums.dtype, copy=False)


def add_change(total: Tensor, end: Tensor, start: Tensor, scale: float = 1.0, limit: float = LIMIT) -> bool:
    """Add what :func:`add_rounded` would add of ``end - start``, in one pass over memory; both stay as they are.

    Each piece of the difference is checked and added while it is in the cache, and is never written to memory.

    Args:
        total: steps of the grid, float64 ``[n]``, or int32 where they fit, on the CPU.
        end: float32 ``[n]``.
        start: float32 ``[n]``.
        scale: at most 1 in magnitude; the product is rounded to float64 first.
        limit: of the magnitude of a difference.

    Returns:
        True; False if a difference is not finite, or not below ``limit`` in magnitude: then nothing was added.
    """
    if (compiled := library()) is not None and _lie_as_compiled(total, end, start):
        return _add_compiled(compiled, total, end, start, scale, limit)
    # A call of numpy takes half as long as one of torch, which shows in pieces as small as these.
    sums, ends, starts = total.numpy(), end.numpy(), start.numpy()
    whole, wide, counted = torch.empty(_PIECE), np.empty(_PIECE), np.empty(_PIECE, sums.dtype)
    narrow = whole.numpy()

    def rounded(place: slice) -> NDArray[Any] | None:
        size = place.stop - place.start
        change, steps = narrow[:size], wide[:size]
        np.subtract(ends[place], starts[place], out=change)
        if not in_range(whole if size == _PIECE else whole[:size], limit):
            return None
        np.copyto(steps, change)
        np.multiply(steps, scale / GRID, out=steps)
        np.rint(steps, out=steps)
        if sums.dtype == steps.dtype:
            return steps
        np.copyto(counted[:size], steps, casting="unsafe")
        return counted[:size]

    places = [slice(first, min(first + _PIECE, len(sums))) for first in range(0, len(sums), _PIECE)]
    with np.errstate(over="ignore", invalid="ignore"):
        for number, place in enumerate(places):
            addend = rounded(place)
            if addend is None:
                # Sums are exact: what is taken out again leaves the bits that were there.
                for before in places[:number]:
                    sums[before] -= cast(NDArray[Any], rounded(before))
                return False
            sums[place] += addend
    return True


def _lie_as_compiled(total: Tensor, end: Tensor, start: Tensor) -> bool:
    """Return whether tensors are what the compiled loop reads and writes without a look: numpy judges all others."""
    parts = (total, end, start)
    kinds = total.dtype in (torch.int32, torch.float64) and end.dtype == start.dtype == torch.float32
    return kinds and all(p.device.type == "cpu" and p.is_contiguous() and p.shape == (len(total),) for p in parts)


def _add_compiled(compiled: CDLL, total: Tensor, end: Tensor, start: Tensor, scale: float, limit: float) -> bool:
    add = compiled.add_change_wide if total.is_floating_point() else compiled.add_change_short
    places = total.data_ptr(), end.data_ptr(), start.data_ptr()
    added = add(*places, len(total), scale / GRID, limit)
    if added == len(total):
        return True
    # Sums are exact: what is taken out again leaves the bits that were there.
    add(*places, added, -scale / GRID, limit)
    return False


def add_wide(total: Tensor, coarse: Tensor, addend: Tensor, scale: float = 1.0) -> None:
    """Add ``scale * addend`` in two pieces: whole multiples of UNIT into ``coarse``, what is left into ``total``.

    Together they are what ``total`` alone would be, as long as that is within its range.

    Args:
        total: steps of the grid, float64 ``[n]``.
        coarse: multiples of UNIT, float64 ``[n]``.
        addend: float32 or float64 ``[n]``; ``scale`` times its magnitudes are below WIDE_LIMIT.
        scale: the product is rounded to float64 first.
    """
    for low, high, piece in zip(total.split(_CACHED), coarse.split(_CACHED), addend.split(_CACHED), strict=True):
        product = piece.to(torch.float64, copy=True).mul_(scale)
        multiples = (product / UNIT).round_()
        high.add_(multiples)
        add_rounded(low, product.sub_(multiples.mul_(UNIT)))
        carry(low, high)


def carry(total: Tensor, coarse: Tensor) -> None:
    """Move whole multiples of UNIT from ``total`` to ``coarse``, so that sums of a thousand such pairs stay exact."""
    multiples = (total * (GRID / UNIT)).round_()
    coarse.add_(multiples)
    total.sub_(multiples.mul_(UNIT / GRID))


def joined(total: Tensor, coarse: Tensor) -> Tensor:
    """Return the steps of the grid ``[n]`` of a sum in two pieces, in the memory of ``total``."""
    return total.add_(coarse, alpha=UNIT / GRID)


def values(total: Tensor, share: float, out: Tensor | None = None) -> Tensor:
    """Return ``total * GRID / share`` as float32 ``[n]``, in the memory of ``total``, which is lost.

    A model's worth of new memory would cost more, in page faults, than the arithmetic.

    Args:
        total: steps of the grid, float64 or int32 ``[n]``.
        share: the divisor.
        out: other memory for the result.
    """
    # Whole numbers are copied first, which is to stay in the caches of two cores.
    size = _CACHED << (4 if total.is_floating_point() else 1)
    narrow = total.view(torch.float32)[: len(total)] if out is None else out
    means = torch.empty(min(size, len(total)), dtype=torch.float64, device=total.device)
    # The narrow pieces lie before the wide ones that are still to be read.
    for piece, target in zip(total.split(size), narrow.split(size), strict=True):
        here = means[: len(piece)]
        # torch divides whole numbers in float32, of too few bits.
        target.copy_(torch.div(piece if piece.is_floating_point() else here.copy_(piece), share / GRID, out=here))
    return narrow


def in_range(values: Tensor, limit: float) -> bool:
    """Return True if every value is finite and below ``limit`` in magnitude."""
    if not values.numel():
        return True
    # Each square is at most the sum, however that is rounded; to ask for it is three times as fast as what follows.
    if values.is_floating_point() and float(torch.dot(values, values)) < limit * limit / 2:
        return True
    # Fifteen times as fast as the maximum norm; both are not a number where one value is.
    least, most = torch.aminmax(values)
    return bool((least > -limit) & (most < limit))
