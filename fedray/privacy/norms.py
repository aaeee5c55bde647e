"""Norms of many vectors that are never below the true ones, at the price of one pass in float32."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Floats

PIECE = 512
"""Columns whose squares are summed in float32."""

ABOVE = 1.0 + 2.0**-15
"""The factor that lifts a computed norm above the true one.

With ``u = 2^-24`` a sum of n squares in float32 is at least ``(1 - u)^n`` times the true one, in whatever order it is
formed: each square, and each of the at most n - 1 additions on its way, rounds once (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 4.2), a fused pair of them once in two.  On a GPU a root is taken of that,
which rounds once more, so that of n = 512 a piece's norm is at least ``(1 - u)^257``, above ``1 - 15.4e-6``, times the
true one.  The rest is done in float64, and of 2^24 pieces off by 2^-29 at most.  ABOVE is above ``1 + 30.5e-6``: 15e-6
are left to whoever rounds what is shortened by it.
"""

LOST = 2.0**-126
"""The most that a square loses where it underflows: all of it, on a processor that knows no subnormal numbers."""


def norms_above(parts: Sequence[Tensor]) -> Floats:
    """Return upper bounds on the Euclidean norms of rows, of which each part has some columns: float64 ``[C]``.

    A bound is above the true norm by 15e-6 at least and 4.6e-5 at most of it, and by ``1.1e-19 sqrt(k)`` where squares
    underflow.  It is infinite, or no number, where an entry is; where only squares of float32 are too large, the norm
    is taken once more in float64, which they fit.

    >>> [float(f"{bound:.6g}") for bound in norms_above([torch.tensor([[3.0, 4.0], [1e30, 0.0]])])]
    [5.00015, 1.00003e+30]

    Args:
        parts: float32 ``[C, k]`` each.
    """
    norms = _lifted(parts)
    if math.isfinite(norms.sum()):
        return norms
    large = ~np.isfinite(norms)
    chosen = torch.from_numpy(large).to(parts[0].device)
    norms[large] = _lifted([part[chosen].to(torch.float64) for part in parts])
    return norms


def _squares(part: Tensor) -> Iterable[Floats]:
    """Yield squared norms ``[C]`` of the columns of whole pieces, and of those that are left."""
    whole = part.shape[1] // PIECE * PIECE
    for piece in (part[:, :whole].unflatten(1, (-1, PIECE)), part[:, None, whole:]):
        if not piece.numel():
            continue
        if part.device.type == "cpu":
            # A dot product of BLAS for each piece, in half the time that a reduction of torch takes.
            rows = piece.detach().numpy()
            yield np.vecdot(rows, rows).sum(axis=1, dtype=np.float64)
        else:
            norms = torch.linalg.vector_norm(piece, dim=2).cpu().numpy()
            yield np.square(norms, dtype=np.float64).sum(axis=1)


def _lifted(parts: Sequence[Tensor]) -> Floats:
    """Return the bounds ``[C]`` of rows, of which each part ``[C, k]`` has some columns."""
    lost = LOST * sum(part.shape[1] for part in parts)
    squares = np.full(len(parts[0]), lost)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            for found in _squares(part):
                squares += found
    bounds: Floats = np.sqrt(squares) * ABOVE
    return bounds


def scale_rows_(parts: Iterable[Tensor], norms: Floats, bound: float) -> None:
    """Shorten rows in place, ``[C, k]`` each part, so that none is longer than ``bound``.

    Args:
        parts: float32, all columns of the rows.
        norms: of :func:`norms_above`, finite, ``[C]``.
        bound: from 2^-100 on.
    """
    over = norms > bound
    if not over.any():
        return
    # Factor and products round by half a unit each, which the excess of the bounds on norms covers many times.
    factor = np.divide(bound, norms, out=np.ones_like(norms), where=over)
    # A factor that is no normal number of float32 would round by more.
    small = factor < np.finfo(np.float32).tiny
    narrow = torch.from_numpy(np.where(small, 1.0, factor).astype(np.float32)[:, None])
    for part in parts:
        part.mul_(narrow.to(part.device))
        for row in np.flatnonzero(small):
            part[row] = (part[row].to(torch.float64) * float(factor[row])).to(torch.float32)
