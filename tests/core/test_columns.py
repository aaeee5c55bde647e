"""Columns of vectors, taken out, filled up and put back."""

from __future__ import annotations

import torch

from fedray.core.columns import Columns

SOME = Columns((slice(1, 3), slice(4, 5)), width=5)


def test_what_is_taken_out_and_put_back_is_where_it_was() -> None:
    values = torch.arange(12.0).view(2, 6)
    taken = SOME.of(values)
    assert taken.tolist() == [[1.0, 2.0, 4.0], [7.0, 8.0, 10.0]]
    taken.mul_(-1.0)
    assert values.min() == 0.0  # a copy
    SOME.put(values, taken)
    assert values.tolist() == [[0.0, -1.0, -2.0, 3.0, -4.0, 5.0], [6.0, -7.0, -8.0, 9.0, -10.0, 11.0]]


def test_vectors_too() -> None:
    vector = torch.arange(6.0)
    assert SOME.of(vector).tolist() == [1.0, 2.0, 4.0]
    SOME.put(vector, torch.zeros(3))
    assert vector.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0, 5.0]


def test_zeros_stand_behind() -> None:
    whole = SOME.filled(torch.ones(2, 3, dtype=torch.int64))
    assert whole.dtype == torch.int64
    assert whole.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert Columns((slice(0, 3),), width=3).size == 3
