"""What is taken for inputs and targets, and what is refused or doubted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data import ClientData, DataSpec, FederatedData
from fedray.data.columns import checks


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.array([0.0, 2.0, 1.0]), "whole numbers from 0 to 2"),
        (np.eye(3)[[0, 2, 1]], "one-hot rows of 3"),
        (np.array([0.5, 2.0, 1.0]), None),
        (np.array([0.0, 250_000.0, 1.0]), None),
        (np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), None),
        (np.array([0, 2, 1]), None),
    ],
)
def test_float_targets_that_look_like_classes_are_named(targets: NDArray[np.float64], said: str | None) -> None:
    x, clients = np.zeros((3, 2), dtype=np.float32), np.array([0, 0, 1])
    data: ClientData = FederatedData.from_arrays(x, targets, clients)
    lazy: ClientData = FederatedData.from_function(lambda c: (x, targets), range(2))
    for one in (data, lazy):
        assert [said in warning for warning in one.warnings] == [True] if said else one.warnings == ()
    if targets.dtype.kind == "f" and targets.ndim == 1:
        known = FederatedData.from_arrays(x, targets, clients, spec=DataSpec((2,), 1, "regression"))
        assert known.warnings == ()


@given(st.integers(1, 9), st.integers(0, 8), st.sampled_from([np.nan, np.inf, -np.inf, 1e39]))
def test_the_first_row_that_float32_cannot_hold_is_named(rows: int, bad: int, value: float) -> None:
    x = np.zeros((rows, 2))
    x[bad % rows :, 1] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_CHUNK", 4)  # rows are looked at two at a time
        with pytest.raises(ConfigError, match=rf"x has NaN, .* in row {bad % rows};"):
            checks.as_inputs(x)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("f8", "f4"), ("f2", "f4"), ("?", "f4"), ("u1", "u1"), ("i2", "i8"), ("u4", "i8"), ("i8", "i8")],
)
def test_inputs_are_stored_as_numbers_bytes_or_tokens(kind: str, stored: str) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=kind)
    kept = checks.as_inputs(values[:, ::-1])
    assert (kept.dtype, kept.flags.c_contiguous) == (np.dtype(stored), True)
    np.testing.assert_array_equal(kept, values[:, ::-1])


def test_rows_of_different_lengths_are_no_array() -> None:
    with pytest.raises(ConfigError, match=r"^no array can be made of these rows \(.*\); make them of one length$"):
        checks.as_array([[1.0, 2.0], [3.0]])
