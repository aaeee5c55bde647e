"""Rows from memory are encoded as those of a file, and refused with row and column."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.frames import beside, inputs_of, table_of
from fedray.data.encoding.options import Options
from tests.data.reading import Files, inputs

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


TEXT = (
    "id;age;seen;sex;grade;ward;y\nP1;40,5;01.03.2020;f;low;A1;no\nP2;60;02.03.2020;m;high;B2;yes\n"
    "P3;;;f;mid;A1;no\nP4;-9;05.03.2020;;;C3;yes\n"
)
OPTIONS: dict[str, Any] = {
    "target": "y",
    "ignore": ["id"],
    "categorical": {"sex": ["f", "m"], "ward": {"hash": 8}},
    "ordinal": {"grade": ["low", "mid", "high"]},
    "csv": {"missing": ["-9"]},
}


@pytest.fixture
def data(write: Files) -> FederatedData:
    """A hospital."""
    return FederatedData.from_csv(write("a.csv", TEXT), **OPTIONS)


def test_a_file_and_a_frame_are_the_rows_that_were_trained_on(
    data: FederatedData, write: Files, tmp_path: Path
) -> None:
    encoding = Encoding.from_json(json.loads(json.dumps(data.encoding)))
    expected = inputs(data, 0)
    new = write("new.csv", "\n".join(line.rpartition(";")[0] for line in TEXT.splitlines()))
    np.testing.assert_array_equal(inputs_of(table_of(new, encoding), encoding), expected)
    frame = pandas.DataFrame(
        {
            "age": [40.5, 60, np.nan, -9],
            "seen": pandas.to_datetime(["2020-03-01", "2020-03-02", None, "2020-03-05"]),
            "sex": ["f", "m", "f", None],
            "grade": ["low", "high", "mid", None],
            "ward": pandas.Categorical(["A1", "B2", "A1", "C3"]),
        }
    )
    np.testing.assert_array_equal(inputs_of(table_of(frame, encoding), encoding), expected)
    np.testing.assert_array_equal(inputs_of(table_of(pa.Table.from_pandas(frame), encoding), encoding), expected)
    np.testing.assert_array_equal(inputs_of(table_of(frame.astype(object), encoding), encoding), expected)
    with pytest.raises(ConfigError, match=r"the rows: column 'seen' has numbers, and dates in the tables"):
        inputs_of(table_of({**frame, "seen": [1, 2, 3, 4]}, encoding), encoding)
    assert encoding.features[:5] == ["age", "seen", "sex=f", "sex=m", "grade"]
    assert len(encoding.features) == expected.shape[1] == encoding.spec.shape[0]


def test_rows_without_a_target_are_kept_where_training_left_them_out(write: Files) -> None:
    a = write("a.csv", "u,v,y\n1,2,p\n3,4,\n5,6,q\n")
    data = FederatedData.from_csv(a, target="y", missing_target="drop", missing_columns="impute")
    assert data.sizes.tolist() == [2]
    assert data.encoding is not None
    encoding = Encoding.from_json(data.encoding)
    assert inputs_of(table_of(a, encoding), encoding).shape == (3, 2)
    earlier = replace(encoding, lacked=None)  # which does not know that every training table had v
    assert inputs_of(table_of({"u": [1.0]}, earlier), earlier).tolist() == [[-1.0, 0.0]]


def test_only_columns_that_some_training_table_lacked_are_filled_in(
    write: Files, caplog: pytest.LogCaptureFixture
) -> None:
    north, west = write("north.csv", "chol,sugar,y\n1,2,p\n3,4,q\n"), write("west.csv", "chol,y\n5,q\n7,p\n")
    data = FederatedData.from_csv([north, west], target="y", missing_columns="impute")
    assert data.encoding is not None
    assert data.encoding["lacked"] == ["sugar"]
    encoding = Encoding.from_json(json.loads(json.dumps(data.encoding)))
    assert inputs_of(table_of({"chol": [1.0, 5.0]}, encoding), encoding).shape == (2, 2)
    assert "there is no column 'sugar': it counts as missing" in caplog.text
    called = table_of({"cholest": [1.0], "sugar": [2.0]}, encoding)
    with pytest.raises(ConfigError, match=r"no column 'chol' \(did you mean 'cholest'\?\); .*lacked: sugar$"):
        inputs_of(called, encoding)
    earlier = Encoding.from_json({key: value for key, value in data.encoding.items() if key != "lacked"})
    assert earlier.to_json() == {key: value for key, value in data.encoding.items() if key != "lacked"}
    assert inputs_of(called, earlier).shape == (1, 2)
    assert "there is no column 'chol' (did you mean 'cholest'?): it counts as missing" in caplog.text
    whole = FederatedData.from_csv([north], target="y", missing_columns="impute").encoding
    assert whole is not None
    with pytest.raises(ConfigError, match=r"fills in what some training table lacked, and none did$"):
        inputs_of(called, Encoding.from_json(whole))


def test_a_file_that_does_not_tell_its_decimal_mark_is_read_as_it_is_said(write: Files) -> None:
    data = FederatedData.from_csv(write("a.csv", "u;y\n1;p\n2;q\n"), target="y", standardize=False)
    assert data.encoding is not None
    encoding = Encoding.from_json(data.encoding)
    new = write("new.csv", "u;id\n1.234;7\n")
    with pytest.raises(ConfigError, match="may be a number of thousands"):
        inputs_of(table_of(new, encoding), encoding)
    assert inputs_of(table_of(new, encoding, {"decimal": ","}), encoding).tolist() == [[1234.0]]


def test_a_column_that_is_filled_in_is_told(caplog: pytest.LogCaptureFixture) -> None:
    rows = {name: column for name, column in columns().items() if name != "age"}
    with pytest.raises(ConfigError, match="there is no column 'age'"):
        inputs_of(table_of(rows, ENCODING), ENCODING)
    called = {"Age ": rows["sex"], **rows}
    with pytest.raises(ConfigError, match=r"'age' \(did you mean 'Age '\?\); .*, and add one that nobody has measured"):
        inputs_of(table_of(called, ENCODING), ENCODING)
    filled = replace(ENCODING, options=Options("ill", missing_columns="impute"), lacked=("age",))
    found, whole = inputs_of(table_of(rows, filled), filled), inputs_of(table_of(columns(), filled), filled)
    (said,) = caplog.messages
    assert said == (
        "the rows: there is no column 'age': it counts as missing in every row, as the run has missing_columns: impute"
        "; columns that are no inputs: 'id'"
    )
    assert found[0].tolist() != whole[0].tolist()
    assert found[1].tolist() == whole[1].tolist()  # who lacks an age has the mean
    empty = {**rows, "age": [None, None]}  # as the refusal advises
    assert inputs_of(table_of(empty, ENCODING), ENCODING).tolist() == found.tolist()


def test_a_column_that_may_have_another_name_now_is_named(write: Files, caplog: pytest.LogCaptureFixture) -> None:
    north, west = write("north.csv", "chol,Temp,y\n1,2,p\n3,4,q\n"), write("west.csv", "chol,y\n5,q\n7,p\n")
    data = FederatedData.from_csv([north, west], target="y", missing_columns="impute")
    assert data.encoding is not None
    encoding = Encoding.from_json(data.encoding)
    inputs_of(table_of({"chol": [1.0], "Temperatur": [36.9], "y": ["p"]}, encoding), encoding)
    assert "there is no column 'Temp' (did you mean 'Temperatur'?): it counts as missing in every row" in caplog.text
    assert caplog.text.strip().endswith("; columns that are no inputs: 'Temperatur'")
