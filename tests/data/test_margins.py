"""Whole numbers with given margins: every margin is met, and proportions that fit are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedray.data.margins import fitted

TABLES = arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(1, 20))


@given(TABLES, st.integers(0, 99))
def test_any_margins_are_met_whatever_is_wanted(table: np.ndarray, seed: int) -> None:
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    wanted = np.random.default_rng(seed).dirichlet(np.full(table.shape[1], 0.05), size=len(table))
    found = fitted(wanted, rows, columns)
    assert (found >= 0).all()
    assert found.sum(axis=1).tolist() == rows.tolist()
    assert found.sum(axis=0).tolist() == columns.tolist()
    assert (fitted(wanted, rows, columns) == found).all()


@given(TABLES)
def test_what_fits_already_is_what_comes_out(table: np.ndarray) -> None:
    assert (fitted(table / table.sum(), table.sum(axis=1), table.sum(axis=0)) == table).all()


def test_all_give_way_alike_where_a_class_has_too_few() -> None:
    """Four clients want the first class alone, which has half of the rows: each gets half of it."""
    wanted = np.array([[1.0] * 4, [0.0] * 4])
    assert fitted(wanted, np.array([20, 20]), np.array([10] * 4)).tolist() == [[5] * 4, [5] * 4]
