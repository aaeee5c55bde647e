"""Rows from memory are encoded as those of a file, and refused with row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedray.core.errors import ConfigError
from fedray.data.encoding.encoding import Encoding, Options
from fedray.data.encoding.frames import beside, inputs_of, table_of

ENCODING = Encoding(
    Options("ill"),
    {"age": (50.0, 10.0, 40.0), "smokes": (0.0, 1.0, 0.0)},
    {"sex": ["0", "1"], "site": ["north", "south"], "old": ["false", "true"]},
    ["age", "sex", "site", "smokes", "old"],
    ["no", "yes"],
)
CSV = "id,site,sex,age,smokes,old\na,north,1,60,1,true\nb,south,,,0,false\n"
EXPECTED = [[1.0, 0, 1, 1, 0, 1, 0, 1], [-1.0, 0, 0, 0, 1, 0, 1, 0]]


def columns() -> dict[str, Any]:
    return {
        "id": ["a", "b"],
        "site": ["north", "south"],
        "sex": [1, None],
        "age": [60.0, None],
        "smokes": [True, False],
        "old": [True, False],
    }


@pytest.mark.parametrize("kind", ["csv", "parquet", "dict", "pandas", "pandas of categories", "arrow", "numpy"])
def test_rows_of_any_kind_are_the_same_inputs(kind: str, tmp_path: Path) -> None:
    rows: Any = columns()
    if kind == "csv":
        rows = tmp_path / "new.csv"
        rows.write_text(CSV)
    elif kind == "parquet":
        rows = str(tmp_path / "new.parquet")
        pyarrow.parquet.write_table(pa.table(columns() | {"old": ["true", "false"]}), rows)
    elif kind.startswith("pandas"):
        rows = pandas.DataFrame(columns(), index=[7, 9])  # sex is a column of floats then: 1.0 and NaN
        if "categories" in kind:
            rows["site"] = rows["site"].astype("category")
    elif kind == "arrow":
        rows = pa.table(columns())
    elif kind == "numpy":
        rows = {**columns(), "sex": np.array([1.0, np.nan]), "age": np.array([60, np.nan], dtype=np.float32)}
    table = table_of(rows, ENCODING)
    assert inputs_of(table, ENCODING).tolist() == EXPECTED
    assert beside(table, ENCODING) == ["id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": ["60", "sixty"]}, r"^row 2, column 'age': 'sixty' is not a number"),
        ({"site": ["north", "soth"]}, r"^row 2, column 'site': unknown category 'soth' \(did you mean 'south'\?\)"),
        ({"sex": [1.5, 2.0]}, r"^row 1, column 'sex': unknown category '1\.5'"),
        ({"age": [1, float("inf")]}, "^row 2, column 'age': 'inf' is not a finite number"),
        ({"age": [1, 2, 3]}, "^columns have different lengths: .*age 3"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        inputs_of(table_of(columns() | change, ENCODING), ENCODING)


def test_a_missing_column_is_named_with_one_that_is_nearly_called_so() -> None:
    rows = {name.replace("age", "Age"): values for name, values in columns().items()}
    with pytest.raises(ConfigError, match=r"no column 'age' \(did you mean 'Age'\?\); the model needs"):
        inputs_of(table_of(rows, ENCODING), ENCODING)
    with pytest.raises(ConfigError, match="there are no rows"):
        inputs_of(table_of({name: [] for name in columns()}, ENCODING), ENCODING)
    with pytest.raises(ConfigError, match=r"a pandas DataFrame, .* is needed; this is a list"):
        table_of([[1, 2]], ENCODING)
