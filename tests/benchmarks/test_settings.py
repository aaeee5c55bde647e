"""The settings of the tables of personal models."""

from __future__ import annotations

import doctest
import gzip
from pathlib import Path

import numpy as np

from benchmarks import settings
from benchmarks.settings import SETTINGS, digits, idx, two_classes
from fedray.algorithms.base import algorithms


def test_its_examples_are_true() -> None:
    assert doctest.testmod(settings).failed == 0


def test_every_row_is_of_a_registered_algorithm() -> None:
    rows = [row.algorithm for setting in SETTINGS.values() for row in setting.rows.values()]
    assert {row if isinstance(row, str) else row["name"] for row in rows} <= algorithms.keys()


def test_clients_have_two_classes_of_real_digits() -> None:
    x, y = digits()
    rows, owner = two_classes(y, 3)
    assert x.shape == (1797, 64)
    assert all(len(np.unique(y[rows[owner == client]])) == 2 for client in range(20))
    assert not np.array_equal(rows, two_classes(y, 4)[0])


def test_an_idx_file_is_read_as_mnist_is_written(tmp_path: Path) -> None:
    x = np.arange(2 * 3 * 2, dtype=np.uint8).reshape(2, 3, 2)
    header = bytes([0, 0, 8, 3]) + np.array(x.shape, ">i4").tobytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + x.tobytes()))
    np.testing.assert_array_equal(idx(tmp_path / "x.gz"), x)
