"""Rows of tokens cut to a length, or laid one behind the other until it is full."""

from __future__ import annotations

from bisect import bisect_left, insort
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
        positions: of each token its place in its row, ``[M]``, where a sequence has several rows; None: it has one.
    """

    ids: NDArray[Any]
    learnt: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    owners: NDArray[Any]
    positions: NDArray[np.int64] | None = None

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
        places = None if self.positions is None else self.positions[tokens]
        return Sequences(self.ids[tokens], self.learnt[tokens], ends, self.owners[rows], places)


def cut(rows: Sequences, length: int, closing: int = 0) -> Sequences:
    """Return sequences of which none is longer: what stands behind is left out.

    >>> rows = Sequences(np.arange(5), np.ones(5, bool), np.array([0, 4, 5]), np.array([0, 0]))
    >>> cut(rows, 3).ids, cut(rows, 3).offsets
    (array([0, 1, 2, 4]), array([0, 3, 4]))
    >>> cut(rows, 3, closing=1).ids
    array([0, 1, 3, 4])

    Args:
        rows: the sequences.
        length: the most tokens of one.
        closing: the tokens at the end of each that stay there, fewer than ``length``.
    """
    lengths = np.diff(rows.offsets)
    place = np.arange(len(rows.ids)) - np.repeat(rows.offsets[:-1], lengths)
    kept = (place < length - closing) | (np.repeat(lengths, lengths) - place <= closing)
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
    names, rank = _ranked(rows.owners)
    order = np.argsort(np.repeat(rank, np.diff(rows.offsets)), kind="stable")
    totals = np.bincount(rank, weights=np.diff(rows.offsets), minlength=len(names)).astype(np.int64)
    pieces = -(-totals // length)
    within = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lengths = np.minimum(np.repeat(totals, pieces) - within * length, length)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(rows.ids[order], rows.learnt[order], ends, np.repeat(names, pieces))


def packed_whole(rows: Sequences, length: int) -> Sequences:
    """Return the rows of each owner whole, as few sequences as best-fit decreasing makes of them.

    The longest row comes first, and each goes where the least room is left behind it (Ding et al., arXiv:2404.10830);
    of one that is longer than a sequence, what stands behind is left out.  ``positions`` begin anew with each row, by
    which models tell rows apart; its first token is nobody's to say, and no target.

    >>> rows = Sequences(np.arange(8), np.ones(8, bool), np.array([0, 1, 4, 6, 8]), np.zeros(4, int))
    >>> found = packed_whole(rows, 4)
    >>> found.ids, found.offsets, found.positions
    (array([1, 2, 3, 0, 4, 5, 6, 7]), array([0, 4, 8]), array([0, 1, 2, 0, 0, 1, 0, 1]))

    Args:
        rows: the rows.
        length: the most tokens of a sequence.
    """
    rows = cut(rows, length)
    lengths = np.diff(rows.offsets)
    names, rank = _ranked(rows.owners)
    ends = np.cumsum(np.bincount(rank, minlength=len(names)))[:-1]
    bins, owners = list[list[int]](), list[Any]()
    for name, own in zip(names, np.split(np.argsort(rank, kind="stable"), ends), strict=True):
        found = _fitted(own, lengths, length)
        bins += found
        owners += [name] * len(found)
    order = np.concatenate([np.array(one, dtype=np.int64) for one in bins])
    counts = lengths[order]
    starts = np.cumsum(counts) - counts
    positions = np.arange(int(counts.sum())) - np.repeat(starts, counts)
    tokens = positions + np.repeat(rows.offsets[:-1][order], counts)
    sizes = [int(lengths[one].sum()) for one in bins]
    learnt = rows.learnt[tokens] & (positions > 0)
    return Sequences(
        rows.ids[tokens], learnt, np.cumsum([0, *sizes], dtype=np.int64), np.array(owners, rows.owners.dtype), positions
    )


def _ranked(owners: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return owners in the order in which they first come, and of each row the number of its own among them."""
    names, first, owner = np.unique(owners, return_index=True, return_inverse=True)
    return names[np.argsort(first)], np.argsort(np.argsort(first))[owner]


def _fitted(rows: NDArray[np.int64], lengths: NDArray[np.int64], length: int) -> list[list[int]]:
    """Return rows in bins of a length, by best-fit decreasing; rows of one length in their order."""
    bins, room = list[list[int]](), dict[int, list[int]]()
    spaces: list[int] = []  # those that some bin has, rising
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        size = int(lengths[row])
        place = bisect_left(spaces, size)
        if place < len(spaces):
            left = spaces[place]
            number = room[left].pop()
            if not room[left]:
                del room[left], spaces[place]
            bins[number].append(row)
        else:
            left, number = length, len(bins)
            bins.append([row])
        if left > size:
            if left - size not in room:
                insort(spaces, left - size)
            room.setdefault(left - size, []).append(number)
    return bins
