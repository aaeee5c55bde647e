"""A client's whole numbers are never longer than the bound that the noise is made for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.core.discrete import DiscreteGaussian
from fedray.core.noise import Stream
from fedray.transforms.secure.quantised import Grid
from fedray.transforms.secure.share import Share, most_square

ways = st.sampled_from(["zero", "nearest", "stochastic"])


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(3, 30),
    way=ways,
    length=st.integers(1, 300),
    norm=st.floats(0.34, 3.0),
    over=st.sampled_from([0.1, 1.0, 1.0 + 1e-6, 7.0]),
    seed=st.integers(0, 99),
)
def test_squares_add_up_to_the_bound_at_most(
    bits: int, way: Any, length: int, norm: float, over: float, seed: int
) -> None:
    grid, draws = Grid(bits, 1.0, way), np.random.default_rng(seed)
    share = Share.of(grid, norm, length, square=1)
    values = draws.standard_normal(length)
    values *= over * norm / np.linalg.norm(values)
    whole = share.bounded(grid, values.astype(np.float32), draws)
    # In whole numbers of any size, and against the bound in real ones.
    found = sum(value * value for value in whole.tolist())
    assert found <= share.most <= (norm / grid.step + math.sqrt(length)) ** 2
    if over <= 1.0:
        assert np.abs(whole * grid.step - np.clip(values, -1.0, 1.0)).max() <= grid.step * (1.0 + 1e-5) + 1e-7


def test_stochastic_rounding_within_the_bound_is_right_on_average() -> None:
    grid, draws = Grid(4, 1.0, "stochastic"), np.random.default_rng(1)
    values = np.full(400, 1.0 / 20.0)
    share = Share.of(grid, 1.0, len(values), square=1)
    found = np.mean([share.bounded(grid, values, draws) for _ in range(200)], axis=0) * grid.step
    assert found.mean() == pytest.approx(0.05, abs=0.001)
    # Towards zero nothing would be left of them.
    assert not Share.of(Grid(4, 1.0, "zero"), 1.0, 400, 1).bounded(Grid(4, 1.0, "zero"), values).any()


def test_sums_of_squares_are_exact_beyond_63_bits() -> None:
    grid = Grid(40, 1.0, "zero")
    share = Share(most=2**60, square=1)
    whole = share.bounded(grid, np.ones(4))
    assert 0 < sum(value * value for value in whole.tolist()) <= 2**60


def test_norms_that_do_not_fit_are_refused_with_bits_that_do() -> None:
    with pytest.raises(ValueError, match="less than a step of secure_sum"):
        most_square(Grid(4, 8.0, "zero"), 1.0, 10)
    with pytest.raises(ValueError, match="take bits of at most 34") as refused:
        most_square(Grid(40, 8.0, "zero"), 1.0, 10)
    assert "exact" in str(refused.value)
    assert most_square(Grid(34, 8.0, "zero"), 1.0, 10) <= 2**60


def test_a_ring_has_room_for_the_noise() -> None:
    grid, share = Grid(8, 1.0, "zero"), Share(127**2, square=10**6)
    assert 2 ** (share.room(grid, 50) - 1) > 50 * 127 + 10 * math.sqrt(50 * 10**6)
    assert share.room(grid, 50) > Share(127**2, square=1).room(grid, 50)


def test_noise_is_that_of_the_words() -> None:
    def words() -> Any:
        return Stream(bytes(32)).words

    found = Share(9, square=25).noise(words(), 40)
    assert found.tolist() == DiscreteGaussian(25).draw(words(), 40).tolist()
