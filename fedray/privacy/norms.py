"""Norms of many vectors that are never below the true ones, at the price of one pass in float32."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import Floats

PIECE = 8192
"""Columns whose squares are summed in float32: fewer than BLAS would divide among threads."""

ABOVE = 1.0 + 2.0**-11
"""The factor that lifts a computed norm above the true one.

With ``u = 2^-24`` a sum of n squares in float32 is at least ``(1 - u)^n`` times the true one, in whatever order it is
formed: each square, and each of the at most n - 1 additions on its way, rounds once (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 4.2), a fused pair of them once in two.  On a GPU a root is taken of that,
which rounds once more, so that of n = 8192 a piece's norm is at least ``(1 - u)^4097``, above ``1 - 2.443e-4``, times
the true one.  The rest is done in float64, and of 2^24 pieces off by 2^-29 at most.  ABOVE is above ``1 + 4.88e-4``:
2.4e-4 are left to whoever rounds what is shortened by it.
"""

LOST = 2.0**-126
"""The most that a square loses where it underflows: all of it, on a processor that knows no subnormal numbers."""


class Bounds(NamedTuple):
    """Upper bounds on the Euclidean norms of rows.

    Args:
        squares: the sums of squares ``[C]``, in float32 or float64, which :data:`ABOVE` lifts above the true ones.
        lost: the most that each of them has lost where squares underflow.
        largest: the largest bound; not finite where one is not.
    """

    squares: NDArray[np.floating[Any]]
    lost: float
    largest: float

    @classmethod
    def of(cls, squares: NDArray[np.floating[Any]], lost: float) -> Bounds:
        """Find the largest, of one number alone.

        What is beside the pass over the rows counts as much as that: a block that has just been trained leaves no cache
        to what comes next, and hardly any has a row to be clipped.
        """
        square = float(squares[squares.argmax()])  # of what is no number, if any is
        return cls(squares, lost, math.sqrt(square + lost) * ABOVE)

    @property
    def each(self) -> Floats:
        """All bounds, float64 ``[C]``."""
        bounds = np.asarray(self.squares + np.float64(self.lost))
        np.sqrt(bounds, out=bounds)
        bounds *= ABOVE
        return bounds

    def of_zeros_but(self, kept: NDArray[np.bool_]) -> Bounds:
        """Return the bounds where all rows but those of ``kept``, ``[C]``, have become zeros."""
        return Bounds.of(np.where(kept, self.squares, 0.0), self.lost)


def norms_above(parts: Sequence[Tensor]) -> Bounds:
    """Return upper bounds on the Euclidean norms of rows, of which each part has some columns.

    A bound is above the true norm by 2.4e-4 at least and 7.4e-4 at most of it, and by ``1.1e-19 sqrt(k)`` where squares
    underflow.  It is infinite, or no number, where an entry is; where only squares of float32 are too large, the norm
    is taken once more in float64, which they fit.

    >>> bounds = norms_above([torch.tensor([[3.0, 4.0], [1e30, 0.0]])])
    >>> [float(f"{bound:.6g}") for bound in bounds.each], bounds.largest == float(bounds.each[1])
    ([5.00244, 1.00049e+30], True)

    Args:
        parts: float32 ``[C, k]`` each, C at least 1.
    """
    found = Bounds.of(_squares(parts), LOST * sum([part.shape[1] for part in parts]))
    if math.isfinite(found.largest):
        return found
    large = ~np.isfinite(found.squares)
    chosen = torch.from_numpy(large).to(parts[0].device)
    squares = found.squares.astype(np.float64)
    squares[large] = _squares([part[chosen].to(torch.float64) for part in parts])
    return Bounds.of(squares, found.lost)


class _Silence(threading.local):
    """A context in which numpy says nothing of squares that are too large, of each thread its own.

    It is made once, where ``numpy.errstate`` would make two in each block, at a tenth of what the norms take.
    """

    def __init__(self) -> None:
        self.context = contextvars.Context()
        self.context.run(np.seterr, over="ignore", invalid="ignore")


_SILENCE = _Silence()


def _squares(parts: Sequence[Tensor]) -> NDArray[np.floating[Any]]:
    """Return the sums of squares ``[C]`` of rows, of which each part ``[C, k]`` has some columns."""
    first, *more = _SILENCE.context.run(_pieces, parts)
    return sum(more, first.astype(np.float64)) if more else first


def _pieces(parts: Sequence[Tensor]) -> list[NDArray[np.floating[Any]]]:
    """Return the sums of squares ``[C]`` of the pieces of rows."""
    return [found for part in parts for found in (_of_cpu(part) if part.device.type == "cpu" else _of_gpu(part))]


def _of_cpu(part: Tensor) -> Iterable[NDArray[np.floating[Any]]]:
    """Yield squared norms ``[C]`` of the columns of whole pieces, and of those that are left: dot products of BLAS.

    The last rows first, as a block whose update was just made leaves those in the cache, and the sum that follows finds
    the first ones there.
    """
    rows = part.numpy(force=True)[::-1]
    if whole := rows.shape[1] // PIECE * PIECE:
        pieces = rows[:, :whole].reshape(len(rows), -1, PIECE)
        yield np.vecdot(pieces, pieces).sum(axis=1, dtype=np.float64)[::-1]
    left = rows[:, whole:] if whole else rows
    yield np.vecdot(left, left)[::-1]


def _of_gpu(part: Tensor) -> Iterable[NDArray[np.floating[Any]]]:
    """Yield what :func:`_of_cpu` does."""
    whole = part.shape[1] // PIECE * PIECE
    for pieces in ([part[:, :whole].unflatten(1, (-1, PIECE))] if whole else []) + [part[:, None, whole:]]:
        norms = torch.linalg.vector_norm(pieces, dim=2).cpu().numpy()
        yield np.square(norms, dtype=np.float64).sum(axis=1)


def scale_rows_(parts: Iterable[Tensor], norms: Floats, bound: float) -> None:
    """Shorten rows in place, ``[C, k]`` each part, so that none is longer than ``bound``.

    Args:
        parts: float32, all columns of the rows.
        norms: of :attr:`Bounds.each`, finite, ``[C]``.
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
