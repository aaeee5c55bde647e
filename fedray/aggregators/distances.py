"""Distances between updates in float64, which neither cancel nor go below zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from fedray.aggregators.gathered import column_pieces
from fedray.aggregators.stored import Reduction

Reduced = Callable[[Reduction], Sequence[Tensor]]
"""A function of ranges of columns to what it makes of each range of the rows, from left to right."""

CLOSE = 1e-6
"""The share of a pair's two squared norms below which its squared distance is computed again directly."""

_MIDDLE = 15
"""The number of rows whose median all rows are centred on."""

_BLOCK = 128
"""The rows of a Gram matrix that are computed at once, up to its diagonal."""


def squared_distances(rows: Tensor) -> Tensor:
    """Return the squared distances of all pairs of rows, float64 ``[n, n]``.

    They are symmetric, never negative, and 0 on the diagonal.  By the Gram matrix ``G`` of the centred rows they are
    ``G_ii + G_jj - 2 G_ij``.  Of close pairs the difference has lost its digits: every pair for which it is below 1e-6
    of ``G_ii + G_jj`` is computed again as a sum of squares, so that the relative error of all is below about 1e-9.

    The centre changes no distance, only how many are computed twice, and so it is one that outliers do not move, as
    they move a mean: the coordinate-wise median of fifteen rows.

    >>> squared_distances(torch.tensor([[1e6, 1.0], [1e6, 1.0], [1e6, 1.001], [0.0, 1.0]])).round(decimals=9)
    tensor([[0.0000e+00, 0.0000e+00, 1.0000e-06, 1.0000e+12],
            [0.0000e+00, 0.0000e+00, 1.0000e-06, 1.0000e+12],
            [1.0000e-06, 1.0000e-06, 0.0000e+00, 1.0000e+12],
            [1.0000e+12, 1.0000e+12, 1.0000e+12, 0.0000e+00]], dtype=torch.float64)

    Args:
        rows: finite, float32 or float64 ``[n, k]``.
    """
    return pairwise(lambda reduce: [reduce(column_pieces(rows))])


def pairwise(reduced: Reduced) -> Tensor:
    """Return what :func:`squared_distances` does, of rows whose columns are reduced range by range.

    Gram matrices of columns add up.  All columns are asked for once, and once more if some pairs are close.

    >>> rows = torch.tensor([[1.0, 0.0, 2.0], [1.0, 3.0, 6.0]])
    >>> pairwise(lambda reduce: [reduce([rows[:, :2]]), reduce([rows[:, 2:]])])
    tensor([[ 0., 25.],
            [25.,  0.]], dtype=torch.float64)
    """
    gram = _sum(reduced(_gram))
    squares = gram.diagonal()
    both = squares[:, None] + squares[None, :]
    below = gram.tril(-1)
    found = both - 2.0 * (below + below.T)
    close = torch.triu(found <= CLOSE * both, diagonal=1).nonzero()
    if len(close):
        one, other = close.T
        found[one, other] = found[other, one] = _sum(reduced(partial(_directly, close)))
    return found.fill_diagonal_(0.0)


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """Add up in the order of the columns, into the first."""
    total, *others = terms
    for term in others:
        total.add_(term)
    return total


def _gram(pieces: Iterable[Tensor]) -> Tensor:
    """Return the Gram matrix ``[n, n]`` of rows centred on the median of some, of which the lower triangle holds."""
    gram = torch.zeros(0, 0, dtype=torch.float64)
    for piece in pieces:
        count = len(piece)
        gram = gram if len(gram) else torch.zeros(count, count, dtype=torch.float64, device=piece.device)
        some = torch.arange(min(count, _MIDDLE), device=piece.device) * (count - 1) // max(1, min(count, _MIDDLE) - 1)
        centred = piece.to(torch.float64, copy=True).sub_(piece[some].median(dim=0).values)
        for start, rows in zip(range(0, count, _BLOCK), centred.split(_BLOCK), strict=True):
            stop = start + len(rows)
            gram[start:stop, :stop].addmm_(rows, centred[:stop].T)
    return gram


def _directly(pairs: Tensor, pieces: Iterable[Tensor]) -> Tensor:
    """Return the squared distances of pairs ``[m, 2]``, sorted by their first, as sums of squares, float64 ``[m]``."""
    found = torch.zeros(len(pairs), dtype=torch.float64, device=pairs.device)
    firsts, counts = torch.unique_consecutive(pairs[:, 0], return_counts=True)
    for piece in pieces:
        exact = piece.double()
        groups = pairs[:, 1].split(counts.tolist())
        for first, others, into in zip(firsts.tolist(), groups, found.split(counts.tolist()), strict=True):
            into += (exact[others] - exact[first]).square_().sum(dim=1)
    return found


def distances_to(pieces: Iterable[Tensor], point: Tensor) -> Tensor:
    """Return the distance of each row from a point, float64 ``[n]``.

    >>> distances_to([torch.tensor([[3.0, 4.0], [0.0, 0.0]])], torch.zeros(2, dtype=torch.float64))
    tensor([5., 0.], dtype=torch.float64)

    Args:
        pieces: the columns of the rows from left to right, ``[n, k']`` each.
        point: float64 ``[k]``.
    """
    squares, start = torch.zeros((), dtype=torch.float64, device=point.device), 0
    for piece in pieces:
        squares = squares + (piece.double() - point[start : start + piece.shape[1]]).square_().sum(dim=1)
        start += piece.shape[1]
    return squares.sqrt_()
