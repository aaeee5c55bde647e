"""Updates as whole numbers of a grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.transforms.secure.quantised import Grid


@given(
    bits=st.integers(2, 53),
    reach=st.floats(1e-3, 1e3),
    values=st.lists(st.floats(-2e3, 2e3, width=32), min_size=1, max_size=20),
    seed=st.integers(0, 9),
)
def test_numbers_stay_within_their_bits_and_a_step_of_the_value(
    bits: int, reach: float, values: list[float], seed: int
) -> None:
    grid, row = Grid(bits, reach), np.array(values, dtype=np.float32)
    clipped = np.clip(row.astype(np.float64), -reach, reach)
    for uniform, most in ((None, 0.5), (np.random.default_rng(seed).random(len(row)), 1.0)):
        whole, saturated = grid.steps(row, uniform)
        assert whole.dtype == np.int64
        assert np.abs(whole).max() < 2 ** (bits - 1)
        assert np.abs(whole * grid.step - clipped).max() <= grid.step * (most + 1e-9) + reach * 1e-15
        assert saturated == int((np.abs(row.astype(np.float64)) > reach).sum())


def test_stochastic_rounding_is_right_on_average() -> None:
    grid, draw = Grid(8, 1.0), np.random.default_rng(1)
    for value in (0.3, -0.3, 0.001):
        whole, _ = grid.steps(np.full(100_000, value), draw.random(100_000))
        assert (whole * grid.step).mean() == pytest.approx(value, abs=4 * grid.step / 2 / 100_000**0.5)
        nearest, _ = grid.steps(np.full(1, value), None)
        assert set(nearest.tolist()) <= set(whole.tolist())


def test_the_mean_is_the_sum_over_the_count() -> None:
    grid = Grid(32, 8.0)
    rows = np.random.default_rng(2).standard_normal((6, 50)).astype(np.float32)
    total = np.sum([grid.steps(row, None)[0] for row in rows], axis=0)
    assert np.abs(grid.mean(total, 6) - rows.mean(axis=0)).max() < grid.step + 1e-6
