"""Norms of many vectors that are never below the true ones, at the price of one pass in float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Floats

PIECE = 256
"""Columns whose squares are summed in float32."""

ABOVE = 1.0 + 2.0**-16
"""The factor that lifts a computed norm above the true one.

With ``u = 2^-24`` a sum of n squares in float32 is at least ``(1 - u)^n`` times the true one, in whatever order it is
formed: each square, and each of the at most n - 1 additions on its way, rounds once (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 4.2), a fused pair of them once in two.  The root rounds once more, so that
of n = 256 a piece's norm is at least ``(1 - u)^129``, above ``1 - 7.7e-6``, times the true one.  The rest is done in
float64, and of 2^24 pieces off by 2^-29 at most.  ABOVE is above ``1 + 15.2e-6``: 7e-6 are left to whoever rounds what
is shortened by it.
"""

LOST = 2.0**-126
"""The most that a square loses where it underflows: all of it, on a processor that knows no subnormal numbers."""


def norms_above(parts: Sequence[Tensor]) -> Floats:
    """Return upper bounds on the Euclidean norms of rows, of which each part has some columns: float64 ``[C]``.

    A bound is above the true norm by 7e-6 at least and 2.3e-5 at most of it, and by ``1.1e-19 sqrt(k)`` where squares
    underflow.  It is infinite, or no number, where an entry is; where only squares of float32 are too large, the norm
    is taken once more in float64, which they fit.

    >>> [float(f"{bound:.6g}") for bound in norms_above([torch.tensor([[3.0, 4.0], [1e30, 0.0]])])]
    [5.00008, 1.00002e+30]

    Args:
        parts: float32 ``[C, k]`` each.
    """
    columns = sum(part.shape[1] for part in parts)
    norms = _joined([norm for part in parts for norm in _pieces(part)], columns)
    if np.isfinite(norms).all():
        return norms
    large = torch.from_numpy(~np.isfinite(norms)).to(parts[0].device)
    exact = [torch.linalg.vector_norm(part[large], dim=1, keepdim=True, dtype=torch.float64) for part in parts]
    norms[~np.isfinite(norms)] = _joined(exact, columns)
    return norms


def _pieces(part: Tensor) -> Iterable[Tensor]:
    whole = part.shape[1] // PIECE * PIECE
    if whole:
        yield torch.linalg.vector_norm(part[:, :whole].unflatten(1, (-1, PIECE)), dim=2)
    if whole < part.shape[1]:
        yield torch.linalg.vector_norm(part[:, whole:], dim=1, keepdim=True)


def _joined(norms: Sequence[Tensor], columns: int) -> Floats:
    """Return the bounds ``[C]`` of rows by the norms of their pieces."""
    squares = sum(np.square(norm.cpu().numpy(), dtype=np.float64).sum(axis=1) for norm in norms)
    found: Floats = np.sqrt(squares + columns * LOST) * ABOVE
    return found


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
