"""Columns of arrays as a report on data tells them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedray import FederatedData, Ragged
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.encoding.overview import LEVELS
from fedray.data.spec import DataSpec
from fedray.report.of_arrays import TOGETHER, of_arrays

MEDIAN = LEVELS.index(0.5)


def test_each_column_is_one_number_a_row_of_the_training_rows() -> None:
    rows, draw = 60, np.random.default_rng(3)
    clients = np.arange(rows) % 2
    words = Ragged.of([np.ones(1 + row % 4, int) for row in range(rows)], mask="mask")
    age = (40 + 30 * clients + draw.normal(0, 1, rows)).astype("f4")
    scan = np.full((rows, 2, 3, 3), 7, np.uint8)
    x = {"words": words, "age": age[:, None], "scan": scan}
    data = FederatedData.from_arrays(x, age * 2, clients, ids=["north", "south"]).with_holdout(0.2, seed=1)
    data.taken = {"columns": ["words", "age", "scan"], "pictures": {"scan": {}}, "target": "cost"}
    found = of_arrays(data)
    assert found is not None
    assert (found.sites, found.rows) == (["north", "south"], [24, 24])
    told = {one.name: one for one in found.columns}
    assert {name: one.kind for name, one in told.items()} == {
        "words": "sequences of int64, up to 4, told by their lengths",
        "age": "numbers, float32",
        "scan": "pictures 2 x 3 x 3, told by means",
    }
    medians = [at.quantiles[MEDIAN] for at in told["age"].at if at.quantiles]
    assert medians == pytest.approx([40, 70], abs=1)
    assert told["age"].drift[0].psi > 1
    assert [at.quantiles[MEDIAN] for at in told["scan"].at if at.quantiles] == [7, 7]
    assert found.target is not None
    assert (found.target.name, found.target.target) == ("cost", True)


def test_many_clients_are_told_together_and_few_rows_have_no_quantiles() -> None:
    data = FederatedData.from_arrays(np.ones((60, 4), "f4"), np.arange(60) % 2, np.arange(60) // 3)
    found = of_arrays(data)
    assert found is not None
    assert (found.sites, found.rows, found.target) == ([TOGETHER], [60], None)
    assert [(one.name, one.kind, len(one.drift)) for one in found.columns] == [
        ("inputs", "float32 4, told by means", 0)
    ]
    few = of_arrays(FederatedData.from_arrays(np.ones((6, 1), "f4"), np.arange(6) % 2, np.arange(6) // 3))
    assert few is not None
    assert [at.quantiles for at in few.columns[0].at] == [None, None]


def test_what_does_not_lie_here_is_not_looked_at() -> None:
    def rows(client: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((3, 2), "f4"), np.arange(3) % 2

    assert of_arrays(FederatedData.from_function(rows, range(2), sizes=[3, 3], spec=DataSpec((2,), 2))) is None


def test_columns_that_were_encoded_are_told_as_they_stand_in_the_files() -> None:
    rows = np.arange(60)
    options = Options("", "regression", ["sex"], columns=["age", "sex"], missing_values="indicator")
    encoding = Encoding(options, {"age": (50.0, 10.0, 50.0)}, {"sex": ["f", "m"]}, ["age", "sex"], None, beside=True)
    gone = rows % 10 == 0
    age = np.stack([np.where(gone, 0.0, (rows - 50) / 10), gone], axis=1).astype("f4")
    sex = np.eye(2, dtype="f4")[rows % 2] * (rows % 3 > 0)[:, None]
    data = FederatedData.from_arrays({"age": age, "sex": sex}, rows % 2, rows // 30, ids=["north", "south"])
    data.encoding = replace(encoding, indicated=("age",)).to_json()
    found = of_arrays(data)
    assert found is not None
    numbers, categories = found.columns
    assert (numbers.kind, numbers.missing) == ("numbers, 50 where missing, which is told", 6)
    median = [at.quantiles[MEDIAN] for at in numbers.at if at.quantiles]
    assert median == pytest.approx([np.median(rows[:30][~gone[:30]]), np.median(rows[30:][~gone[30:]])], abs=1e-4)
    assert (categories.kind, categories.missing, list(categories.categories)) == ("categories", 20, ["f", "m"])
    assert categories.counts.tolist() == [[10, 10, 0], [10, 10, 0]]
