"""Held-out rows: how many, and which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data.columns.holdout import held_sizes, training_first

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def numbers(values: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_how_many() -> None:
    sizes = numbers([1, 2, 3, 10, 100])
    none = np.zeros_like(sizes)
    assert held_sizes(sizes, 0.25, none).tolist() == [0, 1, 1, 2, 25]
    assert held_sizes(sizes, 0.99, none).tolist() == [0, 1, 2, 9, 99]
    assert held_sizes(sizes, 0.0, sizes).tolist() == [0] * 5
    with pytest.raises(ConfigError, match="already"):
        held_sizes(sizes, 0.5, sizes)
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="at least 0 and below 1"):
            held_sizes(sizes, wrong, none)


@given(SIZES, st.floats(0.0, 0.99), st.integers(0, 99))
def test_training_rows_come_first_and_each_client_is_alone(sizes: list[int], fraction: float, seed: int) -> None:
    """The order of all clients is that of each by itself: nobody's rows depend on the others."""
    count = numbers(sizes)
    held = held_sizes(count, fraction, np.zeros_like(count))
    keys = np.arange(len(count)) * 7 + 3
    together = training_first(seed, keys, count, held)
    starts = np.cumsum(count) - count
    for client in range(len(count)):
        own = slice(client, client + 1)
        order = training_first(seed, keys[own], count[own], held[own])
        training, rest = np.split(order, [count[client] - held[client]])
        assert sorted(order.tolist()) == list(range(count[client]))
        assert (np.diff(training) > 0).all()
        assert (np.diff(rest) > 0).all()
        np.testing.assert_array_equal(together[starts[client] : starts[client] + count[client]], starts[client] + order)
