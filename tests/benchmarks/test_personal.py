"""The table of personal models."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from benchmarks import personal
from benchmarks.personal import METHODS, REACHED, digits, interval, missed, table, two_classes
from fedray.algorithms.base import algorithms


def test_its_examples_are_true() -> None:
    assert doctest.testmod(personal).failed == 0


def test_every_row_is_of_a_registered_algorithm_and_the_thresholds_are_of_rows() -> None:
    assert {name for name, _ in METHODS.values()} <= algorithms.keys()
    assert METHODS.keys() >= REACHED


def test_clients_have_two_classes_of_real_digits() -> None:
    x, y = digits()
    rows, owner = two_classes(y, 3)
    assert x.shape == (1797, 64)
    assert all(len(np.unique(y[rows[owner == client]])) == 2 for client in range(20))
    assert not np.array_equal(rows, two_classes(y, 4)[0])


def test_the_interval_is_students() -> None:
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3.0, 2.776445 * np.std(range(5), ddof=1) / 5**0.5))


def test_a_table_has_a_line_for_each_method_and_says_who_is_short() -> None:
    def one(method: str, accuracy: float, seed: int) -> dict[str, Any]:
        told = {"accuracy": accuracy, "worst": 0.5, "seconds": 2.0}
        return {"split": "two classes", "method": method, "seed": seed, **told}

    found = [one("Ditto", 0.95, 0), one("Ditto", 0.93, 1), one("APFL", 0.9, 0), one("FedAvg", 0.7, 0)]
    assert missed(found) == ["APFL"]
    assert [line.split(" | ")[0] for line in table(found)][2:] == ["| FedAvg", "| Ditto", "| APFL", ""]
