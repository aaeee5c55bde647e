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
    row = np.array(values, dtype=np.float32)
    clipped = np.clip(row.astype(np.float64), -reach, reach)
    for rounding, most in (("nearest", 0.5), ("stochastic", 1.0), ("zero", 1.0)):
        grid = Grid(bits, reach, rounding)  # type: ignore[arg-type]
        whole, saturated = grid.steps(row, np.random.default_rng(seed))
        assert whole.dtype == np.int64
        assert np.abs(whole).max() < 2 ** (bits - 1)
        assert np.abs(whole * grid.step - clipped).max() <= grid.step * (most + 1e-9) + reach * 1e-15
        if rounding == "zero":
            assert (np.abs(whole) * grid.step <= np.abs(clipped) * (1 + 2.0**-50)).all()
        assert saturated == int((np.abs(row.astype(np.float64)) > reach).sum())


def test_stochastic_rounding_is_right_on_average() -> None:
    grid, draw = Grid(8, 1.0), np.random.default_rng(1)
    near = Grid(8, 1.0, "nearest")
    for value in (0.3, -0.3, 0.001):
        whole, _ = grid.steps(np.full(100_000, value), draw)
        assert (whole * grid.step).mean() == pytest.approx(value, abs=4 * grid.step / 2 / 100_000**0.5)
        nearest, _ = near.steps(np.full(1, value))
        assert set(nearest.tolist()) <= set(whole.tolist())


def test_the_mean_is_the_sum_over_the_count() -> None:
    grid = Grid(32, 8.0, "nearest")
    rows = np.random.default_rng(2).standard_normal((6, 50)).astype(np.float32)
    total = np.sum([grid.steps(row)[0] for row in rows], axis=0)
    assert np.abs(grid.mean(total, 6) - rows.mean(axis=0)).max() < grid.step + 1e-6
