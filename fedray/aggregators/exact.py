"""Sums that depend neither on grouping nor on order.

Adding float64 numbers is exact as long as every partial sum is a multiple of one grid spacing and stays below
2**53 times that spacing.  So each block's float32 sum is first rounded to a fixed grid (pre-rounding, as in Demmel &
Nguyen, "Fast Reproducible Floating-Point Summation", ARITH 2013, with one bin); after that any order gives the same
bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

GRID = 2.0**-36
"""Spacing of the grid, 1.5e-11: below the float32 spacing of any entry above 1.2e-4."""

LIMIT = 2.0**16
"""Largest magnitude of a block's weighted mean, and so of the cohort's; sums stay exact up to 2 * LIMIT."""

_MAGIC = 1.5 * 2.0**52 * GRID
_CHUNK = 1 << 16


def add_rounded(total: Tensor, addend: Tensor, scale: Tensor | None = None) -> None:
    """``total += round_to_grid(scale * addend)``, in cache-sized pieces.

    Args:
        total: float64 ``[n]``.
        addend: float32 or float64 ``[n]``; ``scale`` times its magnitudes are below LIMIT.
        scale: ``[1]``, of the type of ``addend``, in which the product is rounded; default: 1.
    """
    if total.device.type != "cpu":
        total.add_(_rounded(addend, scale))
        return
    for part, piece in zip(total.split(_CHUNK), addend.split(_CHUNK), strict=True):
        part.add_(_rounded(piece, scale))


def _rounded(values: Tensor, scale: Tensor | None) -> Tensor:
    scaled = values if scale is None else values * scale
    # Adding and subtracting 1.5 * 2**52 grid spacings leaves a multiple of the spacing, rounded to nearest even.
    return scaled.to(torch.float64, copy=True).add_(_MAGIC).sub_(_MAGIC)


def in_range(values: Tensor, limit: float) -> bool:
    """Whether every value is finite and below ``limit`` in magnitude."""
    return bool(torch.linalg.vector_norm(values, ord=float("inf")) < limit) if values.numel() else True
