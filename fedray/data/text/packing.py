"""Rows of tokens cut to a length, or laid one behind the other until it is full."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sequences(NamedTuple):
    """Sequences of tokens, each somebody's.

    Args:
        ids: of all, one behind the other, ``[M]``.
        learnt: True for those that are targets, bool ``[M]``.
        offsets: the places at which each begins, and the last one ends, int64 ``[N + 1]``.
        owners: for each the one to whom it belongs, ``[N]``.
    """

    ids: NDArray[Any]
    learnt: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    owners: NDArray[Any]

    def targets(self) -> NDArray[np.int64]:
        """Return how many tokens of each sequence are learnt and can be: none comes before the first, ``[N]``."""
        counts = np.concatenate([[0], np.cumsum(self.learnt)])
        starts, stops = self.offsets[:-1], self.offsets[1:]
        found: NDArray[np.int64] = counts[stops] - counts[np.minimum(starts + 1, stops)]
        return found

    def where(self, rows: NDArray[np.bool_]) -> Sequences:
        """Return some of the sequences."""
        lengths = np.diff(self.offsets)
        tokens = np.repeat(rows, lengths)
        ends = np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64)
        return Sequences(self.ids[tokens], self.learnt[tokens], ends, self.owners[rows])


def cut(rows: Sequences, length: int) -> Sequences:
    """Return sequences of which none is longer: what stands behind is left out.

    >>> rows = Sequences(np.arange(5), np.ones(5, bool), np.array([0, 4, 5]), np.array([0, 0]))
    >>> cut(rows, 3).ids, cut(rows, 3).offsets
    (array([0, 1, 2, 4]), array([0, 3, 4]))
    """
    lengths = np.diff(rows.offsets)
    kept = np.arange(len(rows.ids)) - np.repeat(rows.offsets[:-1], lengths) < length
    ends = np.concatenate([[0], np.cumsum(np.minimum(lengths, length))]).astype(np.int64)
    return Sequences(rows.ids[kept], rows.learnt[kept], ends, rows.owners)


def packed(rows: Sequences, length: int) -> Sequences:
    """Return the tokens of each owner one behind the other, in pieces of a length, of which the last may be shorter.

    A row may go on in the next piece.  Owners come in the order in which they first do.

    >>> rows = Sequences(np.arange(7), np.ones(7, bool), np.array([0, 3, 5, 7]), np.array([1, 0, 1]))
    >>> found = packed(rows, 4)
    >>> found.ids, found.offsets, found.owners
    (array([0, 1, 2, 5, 6, 3, 4]), array([0, 4, 5, 7]), array([1, 1, 0]))
    """
    names, first, owner = np.unique(rows.owners, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[owner]
    order = np.argsort(np.repeat(rank, np.diff(rows.offsets)), kind="stable")
    totals = np.bincount(rank, weights=np.diff(rows.offsets), minlength=len(names)).astype(np.int64)
    pieces = -(-totals // length)
    within = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lengths = np.minimum(np.repeat(totals, pieces) - within * length, length)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(rows.ids[order], rows.learnt[order], ends, np.repeat(names[np.argsort(first)], pieces))
