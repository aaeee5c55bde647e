"""Held-out rows: how many, and which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data import ClientData, FederatedData
from fedray.data.columns.holdout import held_sizes, training_first
from fedray.data.columns.pooled import Pooled
from tests.data.reading import column, numbered

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


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.floats(0.01, 0.99), st.integers(0, 5))
def test_holdout_moves_a_share_of_every_client_behind_its_training_rows(
    sizes: list[int], fraction: float, seed: int
) -> None:
    data = numbered(sizes)
    held = data.with_holdout(fraction, seed)
    expected = [min(max(round(size * fraction), 1), size - 1) for size in sizes]
    assert held.holdout_sizes.tolist() == expected
    np.testing.assert_array_equal(held.sizes + held.holdout_sizes, sizes)
    x, y, segment = held.holdout(np.arange(len(sizes)))
    assert len(x) == len(y) == len(segment) == sum(expected)
    for client in range(len(sizes)):
        training, local = column(held, client), x[segment == client, 0].numpy()
        assert (np.diff(training) > 0).all()
        np.testing.assert_array_equal(np.sort(np.concatenate([training, local])), column(data, client))
    assert held.label_counts().sum() == held.sizes.sum()


def test_holdout_is_a_function_of_seed_and_client_id_alone() -> None:
    x, y = np.arange(60, dtype=np.float32)[:, None], np.zeros(60, dtype=np.int64)
    names = np.repeat(["a", "b", "c"], 20)
    full = FederatedData.from_arrays(x, y, names).with_holdout(0.3, seed=4)
    part = FederatedData.from_arrays(x[20:], y[20:], names[20:]).with_holdout(0.3, seed=4)
    other = FederatedData.from_arrays(x, y, names).with_holdout(0.3, seed=5)
    np.testing.assert_array_equal(column(full, 2), column(part, 1))
    assert column(full, 2).tolist() != column(other, 2).tolist()
    assert FederatedData.from_arrays(x, y, names).with_holdout(0.0, seed=4).holdout_sizes.sum() == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_holdout_out_of_range_is_an_error(fraction: float) -> None:
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        numbered([3]).with_holdout(fraction, seed=0)


def test_holdout_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="held-out rows already"):
        numbered([3]).with_holdout(0.5, seed=0).with_holdout(0.5, seed=0)


@pytest.mark.parametrize("kind", ["arrays", "function", "mapped", "pooled"])
def test_the_order_of_rows_names_each_as_it_was_given(kind: str, tmp_path: Path) -> None:
    x, y, clients = np.arange(12, dtype=np.float32)[:, None], np.arange(12) % 2, np.repeat([0, 1], [5, 7])
    made: ClientData = FederatedData.from_arrays(x, y, clients)
    if kind == "function":
        made = FederatedData.from_function(lambda client: (x[clients == client], y[clients == client]), range(2))
    assert made.order(1).tolist() == list(range(7))
    held = made.with_holdout(0.4, seed=3)
    held = held.share(tmp_path) if kind == "mapped" else Pooled(held) if kind == "pooled" else held
    for client in (0, 1):
        lie = [*column(held, client).tolist(), *held.holdout(np.array([client]))[0].flatten().tolist()]
        assert lie == x[clients == client][held.order(client), 0].tolist()
        assert sorted(lie) != lie
    if kind == "pooled":
        assert held.order(2).tolist() == list(range(int(held.sizes[2])))
