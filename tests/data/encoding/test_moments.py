"""Federated means and deviations are those of the pooled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedray.data.encoding.moments import Sums, federated_moments


def moments(silos: list[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean and deviation over all silos' rows."""
    return federated_moments(lambda center: [Sums.of(values, center) for values in silos], silos[0].shape[1])


@given(arrays(np.float64, (12, 2), elements=st.floats(-1e6, 1e6)), st.integers(1, 11))
def test_merged_sums_are_the_sums_of_the_pooled_rows(values: np.ndarray[Any, Any], cut: int) -> None:
    mean, deviation = moments([values[:cut], values[cut:]])
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(deviation, values.std(axis=0), rtol=1e-6, atol=1e-6)


def test_sums_skip_missing_values() -> None:
    sums = Sums.of(np.array([[1.0, np.nan], [3.0, 5.0]]), np.zeros(2)).merge(Sums.of(np.full((1, 2), 8.0), np.zeros(2)))
    assert sums.count.tolist() == [3.0, 2.0]
    assert sums.mean().tolist() == [4.0, 6.5]
    np.testing.assert_allclose(sums.deviation(), np.array([np.std([1.0, 3.0, 8.0]), 1.5]))


@given(st.floats(-1e9, 1e9), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_a_constant_column_has_no_deviation_whatever_the_rounding(value: float, sizes: list[int]) -> None:
    _, deviation = moments([np.full((size, 1), value) for size in sizes])
    assert deviation.tolist() == [0.0]
