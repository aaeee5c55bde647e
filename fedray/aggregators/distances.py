"""Distances between updates in float64, which neither cancel nor go below zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fedray.aggregators.gathered import column_pieces

Pieces = Callable[[], Iterable[Tensor]]
"""The columns of rows from left to right, ``[n, k]`` each, anew with each call."""

CLOSE = 1e-6
"""The share of a pair's two squared norms below which its squared distance is computed again directly."""

_MIDDLE = 15
"""The number of rows whose median all rows are centred on."""


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
    return pairwise(len(rows), lambda: column_pieces(rows))


def pairwise(count: int, pieces: Pieces) -> Tensor:
    """Return what :func:`squared_distances` does, of ``count`` rows that are given a few columns at a time.

    Gram matrices of columns add up.  All columns are asked for once, and once more if some pairs are close.
    """
    gram = torch.zeros(count, count, dtype=torch.float64)
    some = torch.arange(min(count, _MIDDLE)) * (count - 1) // max(1, min(count, _MIDDLE) - 1)
    for piece in pieces():
        gram, some = gram.to(piece.device), some.to(piece.device)
        centred = piece.to(torch.float64, copy=True).sub_(piece[some].median(dim=0).values)
        gram.addmm_(centred, centred.T)
    squares = gram.diagonal()
    both = squares[:, None] + squares[None, :]
    found = both - (gram + gram.T)
    close = torch.triu(found <= CLOSE * both, diagonal=1)
    if close.any():
        found = torch.where(close | close.T, _directly(pieces, close), found)
    return found.fill_diagonal_(0.0)


def _directly(pieces: Pieces, wanted: Tensor) -> Tensor:
    """Return the squared distances of the pairs that are true in the upper triangle ``wanted`` ``[n, n]``."""
    found = torch.zeros(wanted.shape, dtype=torch.float64, device=wanted.device)
    others = [(i, wanted[i].nonzero().flatten()) for i in wanted.any(dim=1).nonzero().flatten().tolist()]
    for piece in pieces():
        exact = piece.double()
        for i, close in others:
            found[i, close] += (exact[close] - exact[i]).square_().sum(dim=1)
    return found + found.T


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
