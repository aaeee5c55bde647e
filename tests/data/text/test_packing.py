"""Packing and cutting, against loops over rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.data.text.packing import Sequences, cut, packed, packed_whole

ROWS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc")), min_size=1, max_size=9)


def sequences(rows: list[tuple[int, str]]) -> tuple[Sequences, list[list[int]]]:
    ends = np.cumsum([0, *(length for length, _ in rows)])
    ids = np.arange(int(ends[-1]))
    found = Sequences(ids, ids % 3 > 0, ends, np.array([who for _, who in rows]))
    return found, [ids[a:b].tolist() for a, b in pairwise(ends)]


def pieces(rows: Sequences) -> list[Any]:
    ends = rows.offsets
    return [rows.ids[a:b].tolist() for a, b in pairwise(ends)]


@given(ROWS, st.integers(2, 5))
def test_each_owner_s_tokens_stand_in_order_and_the_last_piece_is_shorter(
    rows: list[tuple[int, str]], length: int
) -> None:
    given_, lists = sequences(rows)
    found = packed(given_, length)
    expected, owners = [], []
    for who in dict.fromkeys(name for _, name in rows):
        flat = [token for one, (_, name) in zip(lists, rows, strict=True) if name == who for token in one]
        mine = [flat[at : at + length] for at in range(0, len(flat), length)]
        expected += mine
        owners += [who] * len(mine)
    assert pieces(found) == expected
    assert found.owners.tolist() == owners
    assert (found.learnt == (found.ids % 3 > 0)).all()


@given(ROWS, st.integers(2, 5))
def test_what_is_cut_stands_behind(rows: list[tuple[int, str]], length: int) -> None:
    given_, lists = sequences(rows)
    found = cut(given_, length)
    assert pieces(found) == [one[:length] for one in lists]
    assert found.targets().tolist() == [sum(token % 3 > 0 for token in one[1:length]) for one in lists]
    closed = cut(given_, length, 1)
    assert pieces(closed) == [one if len(one) <= length else [*one[: length - 1], one[-1]] for one in lists]
    kept = found.targets() > 0
    some = found.where(kept)
    assert pieces(some) == [one[:length] for one, keep in zip(lists, kept, strict=True) if keep]
    assert len(some.owners) == int(kept.sum())


WHOLE = st.lists(st.tuples(st.integers(1, 12), st.sampled_from("ba")), min_size=1, max_size=20)


@given(WHOLE, st.integers(2, 9))
def test_rows_that_are_packed_whole_are_all_there_each_in_one_sequence(rows: list[tuple[int, str]], most: int) -> None:
    offsets = np.cumsum([0, *(size for size, _ in rows)])
    owners = np.array([owner for _, owner in rows])
    learnt = np.arange(offsets[-1]) % 3 > 0
    found = packed_whole(Sequences(np.arange(offsets[-1]), learnt, offsets, owners), most)
    lengths = np.diff(found.offsets)
    assert lengths.max() <= most
    assert found.positions is not None
    pieces = np.split(found.ids, np.flatnonzero(found.positions == 0)[1:])
    wanted = [list(range(start, start + min(size, most))) for start, (size, _) in zip(offsets, rows, strict=False)]
    assert sorted(piece.tolist() for piece in pieces) == sorted(wanted)
    assert set(found.offsets[:-1]) <= set(np.flatnonzero(found.positions == 0))
    whose = np.repeat(found.owners, lengths)
    assert (whose == owners[np.searchsorted(offsets, found.ids, side="right") - 1]).all()
    np.testing.assert_array_equal(found.learnt, learnt[found.ids] & (found.positions > 0))
    # No two sequences of an owner could be one.
    for owner in set(owners):
        rest = np.sort(lengths[found.owners == owner])
        assert len(rest) < 2 or rest[0] + rest[1] > most
    half = found.where(np.arange(len(lengths)) % 2 == 0)
    assert half.positions is not None
    assert len(half.positions) == len(half.ids)
