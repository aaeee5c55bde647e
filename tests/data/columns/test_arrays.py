"""Rows of arrays are sorted by client, and what they mean is read off them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data import DataSpec, FederatedData
from fedray.data.columns.ragged import Ragged
from fedray.data.partition import IID
from tests.data.reading import column


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_row_is_found_at_its_client(sizes: list[int], random: object) -> None:
    clients = np.repeat(np.arange(len(sizes)), sizes)
    random.shuffle(order := list(range(len(clients))))  # type: ignore[attr-defined]
    x = np.arange(len(clients), dtype=np.float32)[:, None]
    data = FederatedData.from_arrays(x[order], np.zeros(len(clients), dtype=np.int64), clients[order])
    assert data.sizes.tolist() == sizes
    for client in range(len(sizes)):
        kept = x[order][clients[order] == client, 0]
        np.testing.assert_array_equal(column(data, client), kept)


def test_specification_is_read_off_the_arrays() -> None:
    tokens = FederatedData.from_arrays([[1, 5], [2, 0]], [0, 3], [0, 1], test=([[7, 1]], [3]))
    assert tokens.spec == DataSpec((2,), 4, "classification", vocabulary=8)
    floats = FederatedData.from_arrays(np.ones((2, 3)), [0.5, 1.5], [0, 1])
    assert floats.spec == DataSpec((3,), 1, "regression")
    assert floats.rows(np.array([0])).take(np.array([[0]]))[1].shape == (1, 1, 1)


NAN = np.array([[0.0], [0.0], [np.nan]])


@pytest.mark.parametrize(
    ("x", "y", "clients", "ids", "words"),
    [
        (NAN, [0, 1, 0], ["b", "a", "b"], None, r"x has NaN, .* in row 2 \(row 1 of client 'b'\); fill in"),
        (NAN, [0, 1, 0], [1, 0, 0], ["nord", "sued"], r"in row 2 \(row 1 of client 'nord'\)"),
        ({"a": NAN}, [0, 1, 0], [0, 0, 1], None, r"x\['a'\] has NaN, .* in row 2 \(row 0 of client '1'\)"),
        ([[1], [-2], [0]], [0, 1, 0], [0, 0, 1], None, r"negative ones in row 1 \(row 1 of client '0'\); use float"),
        ([[1.0]] * 3, [0, 1, -1], [0, 0, 1], None, r"negative class indices in row 2 \(row 0 of client '1'\); classes"),
        ([[1.0]] * 3, [0.5, np.inf, 1], ["a", "a", "b"], None, r"y has NaN, .* in row 1 \(row 1 of client 'a'\)"),
        ([[1.0]] * 3, [0, 1, -1], [0, 0], None, "y has negative class indices in row 2; classes"),
        (
            Ragged.of([[1, 2], [3], [4, -5, 6]]),
            [0, 1, 0],
            np.array([b"b", b"a", b"b"]),
            None,
            r"negative ones in row 2 \(row 1 of client 'b'\)",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_client_and_its_row_there(
    x: Any, y: Any, clients: Any, ids: list[str] | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        FederatedData.from_arrays(x, y, clients, ids=ids)


X = np.zeros((4, 2))
Y = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clients": [0, 0, 2, 2]}, "client '1' has no training examples; number them from 0 without gaps"),
        ({"clients": [1, 1, 2, 2]}, "client '0' has no training examples; number them from 0 without gaps"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "b", "lonely"]}, "client 'lonely' has no training examples"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "a"]}, "client id 'a' is used twice"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "b/../c"]}, "'b/../c' is not allowed"),
        ({"clients": [0, 0, 1, 1], "ids": ["a", "x" * 65]}, "is not allowed"),
        ({"clients": [0, 0, 1, 1], "ids": ["a"]}, "1 client ids were given"),
        ({"clients": ["a", "a", "b", "z"], "ids": ["a", "b"]}, "'z', which is not among ids"),
        ({"clients": [0, 0, 1]}, "x has 4 rows but clients has 3"),
        ({"clients": [0, 0, 1, -1]}, "negative numbers"),
        ({"clients": [0, 0, 1, 7_000]}, "number them from 0 without gaps"),
        ({"clients": [0.5, 0, 1, 1]}, "must be numbers or names"),
        ({"clients": [0, 0, 1, 1], "y": Y[:3]}, "x has 4 rows but y has 3"),
        ({"clients": [0, 0, 1, 1], "y": Y - 1}, "negative class"),
        ({"clients": [0, 0, 1, 1], "y": ["a", "b", "a", "b"]}, "number the classes first"),
        ({"clients": [0, 0, 1, 1], "x": X + np.array([[0], [0], [np.nan], [0]])}, "row 2"),
        ({"clients": [0, 0, 1, 1], "x": X + 1e39}, "row 0"),
        ({"clients": [0, 0, 1, 1], "x": X.astype(int) - 1}, "negative"),
        ({"clients": [0, 0, 1, 1], "test": (X, Y + 1)}, "class 2 does not occur"),
        ({"clients": [0, 0, 1, 1], "test": (X[:, :1], Y)}, "test: inputs have shape"),
        ({"clients": [0, 0, 1, 1], "test": X}, "expected a pair"),
        ({"clients": [0, 0, 1, 1], "test": (X[:0], Y[:0])}, "test set has no rows"),
        ({"clients": [0, 0, 1, 1], "spec": DataSpec((2,), 1)}, "class 1 is unknown"),
        ({"clients": [0, 0, 1, 1], "spec": DataSpec((2,), 1, "regression")}, "regression needs"),
        ({"clients": [], "x": X[:0], "y": Y[:0]}, "no rows"),
    ],
)
def test_what_cannot_be_data_is_one_clear_error(arguments: dict[str, object], message: str) -> None:
    given = {"x": X, "y": Y} | arguments
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_arrays(given.pop("x"), given.pop("y"), np.array(given.pop("clients")), **given)  # type: ignore[arg-type]


def test_datasets_that_cannot_be_stacked_are_errors() -> None:
    ragged = [(torch.zeros(2), 0), (torch.zeros(3), 1)]
    with pytest.raises(ConfigError, match="item 1 of the data set"):
        FederatedData.from_dataset(ragged, IID(clients=1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a pair"):
        FederatedData.from_dataset([torch.zeros(2)], IID(clients=1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="map-style"):
        FederatedData.from_dataset(iter(ragged), IID(clients=1))  # type: ignore[arg-type]
