"""The tables that ship with the package."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from fedray.data.tables import load_table


def test_shipped_tables_are_sklearns() -> None:
    digits, table = load_digits(), load_table("digits")
    np.testing.assert_array_equal(table["x"], digits.images)
    np.testing.assert_array_equal(table["y"], digits.target)
    cancer, table = load_breast_cancer(), load_table("breast_cancer")
    np.testing.assert_array_equal(table["x"], cancer.data)
    np.testing.assert_array_equal(table["y"], cancer.target)
    assert table["features"].tolist() == cancer.feature_names.tolist()
    assert table["classes"].tolist() == cancer.target_names.tolist()
