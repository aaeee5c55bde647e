"""Bounds on norms in float32, held to sums of exact squares that are rounded once."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedray.privacy.norms import PIECE, norms_above, scale_rows_

LARGEST, SMALLEST = float(np.finfo(np.float32).max), 2.0**-149
MAGNITUDES = (0.0, SMALLEST, 1e-42, 2.0**-126, 1e-23, 1e-19, 2.0**-13, 1.0, 1.0 + 2.0**-12, 3e4, 1.5e19, 1e30, LARGEST)
"""Among them: subnormal numbers, numbers whose squares are, or underflow, or overflow, squares that round down, and
2^-13, which a sum of squares in float32 that has reached 1 does not notice."""

vectors = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 7, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3]),
    st.lists(st.sampled_from(MAGNITUDES), min_size=1, max_size=3),
    st.sampled_from(["constant", "first", "normal"]),
)


def vector(case: tuple[int, int, list[float], str]) -> Tensor:
    """Return a row ``[1, k]`` whose entries have the magnitudes of the case, by turns or the first one once."""
    seed, width, magnitudes, kind = case
    found = torch.tensor([magnitudes[place % len(magnitudes)] for place in range(width)], dtype=torch.float64)
    if kind == "first":
        found = torch.full((width,), magnitudes[-1], dtype=torch.float64)
        found[0] = magnitudes[0]
    if kind == "normal":
        found = found * torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return found.clamp(-LARGEST, LARGEST).to(torch.float32)[None]


def squared(row: Tensor) -> Fraction:
    """Return the square of the norm of a row ``[1, k]``, rounded once: squares of float32 are exact in float64."""
    return Fraction(math.fsum(value**2 for value in row[0].tolist()))


@settings(max_examples=30, deadline=None)
@given(vectors)
def test_a_bound_is_above_the_norm_and_close_to_it(case: tuple[int, int, list[float], str]) -> None:
    row = vector(case)
    found, true = norms_above([row]), squared(row)
    (bound,) = found.each
    assert found.largest == bound
    assert Fraction(float(bound)) ** 2 >= true * Fraction(1.00024) ** 2
    lost = row.shape[1] * Fraction(2) ** -125
    assert Fraction(float(bound)) ** 2 <= (true + lost) * Fraction(1.00074) ** 2


@settings(max_examples=30, deadline=None)
@given(vectors, st.sampled_from([1e-30, 1e-9, 0.1, 1.0, 1e7, 1e30]), st.booleans())
def test_nothing_is_longer_than_the_norm_that_it_is_clipped_to(
    case: tuple[int, int, list[float], str], norm: float, near: bool
) -> None:
    row = vector(case)
    length = math.sqrt(min(squared(row), Fraction(10) ** 300))
    if near and 1e-30 <= length <= 1e30:
        norm = length  # where a norm that is too small by anything would leave the row as it is
    before, parts = row.clone(), [row[:, :5], row[:, 5:]] if row.shape[1] > 5 else [row]
    scale_rows_(parts, norms_above(parts).each, norm)
    assert squared(row) <= Fraction(norm) ** 2
    if length <= norm / 1.00075:
        assert torch.equal(row, before) or norm < 1e-15, "a row that is short enough stays"
    elif norm >= 1e-15:
        assert squared(row) >= Fraction(norm * (1 - 1e-3)) ** 2 or norm < length * 1e-30, "and no more than it has to"


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_norm_of_what_is_no_number_is_none(bad: float) -> None:
    rows = torch.ones(3, 2 * PIECE)
    rows[1, 3] = bad
    found = norms_above([rows])
    assert not math.isfinite(found.largest)
    assert np.isfinite(found.each).tolist() == [True, False, True]
    kept = found.of_zeros_but(np.array([True, False, False]))
    assert kept.largest == kept.each[0] == found.each[0]
    assert (kept.each[1:] < 1e-15).all()
