"""The five hospitals hold every row of the table once."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from fedray.data.tables.hospitals import TARGET, write_hospitals


def test_hospitals_hold_every_row_of_the_table_once(tmp_path: Path) -> None:
    paths, test = write_hospitals(tmp_path, seed=1)
    assert [path.stem for path in paths] == [f"hospital_{letter}" for letter in "abcde"]
    rows, sizes, shares = [], [], []
    for path in [*paths, test]:
        with path.open(newline="") as stream:
            records = list(csv.DictReader(stream))
        rows += [tuple(float(record[name]) for name in record if name != TARGET) for record in records]
        sizes.append(len(records))
        shares.append(np.mean([record[TARGET] == "malignant" for record in records]))
    assert sorted(rows) == sorted(map(tuple, load_breast_cancer().data.tolist()))
    assert sizes == [160, 120, 80, 55, 40, 114]
    np.testing.assert_allclose(shares, [0.15, 0.35, 0.55, 0.62, 0.65, 0.37], atol=0.005)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_hospitals(tmp_path, seed=1)[0]] == before
    assert [path.read_bytes() for path in write_hospitals(tmp_path, seed=2)[0]] != before
