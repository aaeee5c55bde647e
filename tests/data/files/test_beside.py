"""Columns beside arrays that are encoded as those of tables are: against tables, which have no arrays."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.data.encoding.encoding import Encoding
from tests.data.reading import everything, load

ROWS = 12
DRAW = np.random.default_rng(4)
AGE = [None if row % 5 == 2 else float(20 + row) for row in range(ROWS)]
CELLS: dict[str, Any] = {
    "age": AGE,
    "sex": ["f", "m", None] * 4,
    "seen": [date(2024, 1, 1 + row) for row in range(ROWS)],
    "grade": ["low", "high", "mid", "low"] * 3,
    "y": [0, 1] * 6,
}
SIGNS = DRAW.random((ROWS, 3)).astype("f4")
ENCODE = ["age", "sex", "seen", "grade"]
OPTIONS: dict[str, Any] = {
    "categorical": ["sex"],
    "ordinal": {"grade": ["low", "mid", "high"]},
    "missing_values": "indicator",
}


def write(path: Path, cells: dict[str, Any] = CELLS, start: int = 0, stop: int = ROWS, **more: Any) -> Path:
    """Rows of a file, with an array beside the cells."""
    signs = pa.FixedSizeListArray.from_arrays(pa.array(SIGNS[start:stop].ravel()), 3)
    rows = pa.table({"signs": signs, **{name: one[start:stop] for name, one in {**cells, **more}.items()}})
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, path)
    else:
        pyarrow.feather.write_feather(rows, path)
    return path


def parquet(path: Path, **said: Any) -> Any:
    return load(name="parquet", path=str(path), target="y", **{"encode": ENCODE, **OPTIONS, **said})


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_each_column_is_what_a_table_has_of_it(kind: str, tmp_path: Path) -> None:
    for name, start, stop in (("ann", 0, 7), ("bob", 7, ROWS)):
        write(tmp_path / "arrays" / f"{name}.{kind}", start=start, stop=stop)
        (tmp_path / "tables").mkdir(exist_ok=True)
        table = pa.table({name: one[start:stop] for name, one in CELLS.items()})
        pyarrow.parquet.write_table(table, tmp_path / "tables" / f"{name}.parquet")
    tables = load(name="folder", path=str(tmp_path / "tables"), target="y", columns=ENCODE, **OPTIONS)
    data = parquet(tmp_path / "arrays")
    assert [(column.name, column.shape) for column in data.spec.columns] == [
        ("signs", (3,)), ("age", (2,)), ("sex", (2,)), ("seen", (1,)), ("grade", (1,)),
    ]  # fmt: skip
    x, _ = everything(tables)
    found = data.stored()
    assert np.array_equal(np.concatenate([found[name].numpy() for name in ENCODE], axis=1), x)
    assert np.array_equal(found["signs"].numpy(), SIGNS)
    encoding = Encoding.from_json(data.encoding)
    assert (encoding.to_json(), encoding.beside, encoding.to_json()["format"]) == (data.encoding, True, 5)
    assert tables.encoding is not None
    assert encoding.numeric == Encoding.from_json(tables.encoding).numeric
    assert data.taken["encode"] == ENCODE


def test_it_is_learnt_from_training_rows_alone_and_a_run_keeps_it(tmp_path: Path) -> None:
    held = [row >= 8 for row in range(ROWS)]
    file = write(tmp_path / "all.parquet", site=["ann", "bob"] * 6, held=held)
    said: dict[str, Any] = {"client": "site", "split": "held", "columns": ["age"], "encode": ["age"]}
    told: dict[str, Any] = {"categorical": None, "ordinal": {}, "missing_values": "impute"}
    data = parquet(file, **said, **told)
    there = [age for age, test in zip(AGE, held, strict=True) if age is not None and not test]
    assert data.encoding["columns"][0]["fill"] == pytest.approx(np.mean(there))
    assert data.spec.shape == (1,), "one column goes alone"
    assert data.test is not None
    filled = [np.mean(there) if age is None else age for age, test in zip(AGE, held, strict=True) if test]
    expected = (np.array(filled) - np.mean(there)) / np.std(there)
    assert sorted(data.test.x[:, 0].tolist()) == pytest.approx(sorted(expected), abs=1e-6)
    later = write(tmp_path / "later.parquet", {**CELLS, "age": [30.0] * ROWS}, site=["ann", "bob"] * 6, held=held)
    source = bind_part(data_sources, {"name": "parquet", "path": str(later), "target": "y", **said}, "data")
    again = source.load(0, encoding=data.encoding)
    assert again.encoding == data.encoding
    assert again.stored()[0, 0].item() == pytest.approx((30 - np.mean(there)) / np.std(there), abs=1e-6)
    other = bind_part(
        data_sources, {"name": "parquet", "path": str(later), "target": "y", **said, "standardize": False}, "data"
    )
    with pytest.raises(ConfigError, match="standardize: the model was trained on tables that were encoded otherwise"):
        other.load(0, encoding=data.encoding)


@pytest.mark.parametrize(
    ("changed", "said", "words"),
    [
        ({}, {"encode": "age"}, "data.encode: expected a list, got 'age'"),
        ({}, {"encode": ["age", "age"]}, "encode: expected names of columns, each once"),
        ({}, {"encode": ["agee"], "categorical": None, "ordinal": {}}, "has no column 'agee'; it has signs, age"),
        ({}, {"encode": ["y"], "categorical": None, "ordinal": {}}, "encode: 'y' is no input, but the target"),
        ({}, {"columns": ["signs"]}, "encode: 'age' is not among `columns`; name it there"),
        ({}, {"ignore": ["age"]}, "encode: 'age' is in `ignore`, too; leave it out of one of them"),
        ({}, {"ignore": ["agee"]}, r"ignore: 'agee' is a column of no file \(did you mean 'age'\?\)"),
        ({}, {"encode": [*ENCODE, "signs"]}, "column 'signs': `encode` is for columns of one number, word or date in"),
        ({}, {"encode": []}, r"categorical: it is said of columns that are encoded.*: `encode: \[age, sex\]`"),
        ({}, {"encode": ["age"]}, "categorical: 'sex' is not among the columns of `encode`; name it there"),
        ({}, {"encode": ["age", "seen"], "categorical": ["age", "senn"]}, r"'senn' is not.*\(did you mean 'seen'\?\)"),
        ({}, {"categorical": None}, r"row 1, column 'sex': 'f' is not a number; declare.*categorical"),
        ({"grade": ["low", "max"] * 6}, {}, r"a.parquet, row 2, column 'grade': unknown level 'max'"),
        ({"age": [None] * ROWS}, {}, r"column 'age' has no value in any training row; leave it out: `ignore"),
        ({}, {"encode": ["sex"], "ordinal": {}}, r"column 'age': 2 values are missing; .*: `encode: \[age\]`"),
        ({}, {"encode": ["age"], "categorical": None, "ordinal": {}, "ignore": ["sex"]}, "date32.* is no number, list"),
    ],
)
def test_what_cannot_be_is_said(changed: dict[str, Any], said: dict[str, Any], words: str, tmp_path: Path) -> None:
    write(tmp_path / "silos" / "a.parquet", {**CELLS, **changed})
    with pytest.raises(ConfigError, match=words):
        parquet(tmp_path / "silos", **said)


def test_columns_that_are_ignored_are_no_inputs(tmp_path: Path) -> None:
    write(tmp_path / "silos" / "a.parquet", patient=list("abcdefghijkl"))
    data = parquet(tmp_path / "silos", ignore=["patient", "signs"])
    assert [column.name for column in data.spec.columns] == ENCODE


def test_a_value_of_no_known_category_is_an_error_or_another_one(tmp_path: Path) -> None:
    write(tmp_path / "silos" / "a.parquet")
    test = write(tmp_path / "test.parquet", {**CELLS, "sex": ["x"] * ROWS})
    with pytest.raises(ConfigError, match=r"test\.parquet, row 1, column 'sex': unknown category 'x'; known: f, m"):
        parquet(tmp_path / "silos", test=str(test))
    data = parquet(tmp_path / "silos", test=str(test), unseen="other")
    assert data.test is not None
    assert data.test.x["sex"].sum() == 0
    assert any("12 cells of no known category" in note for note in data.notes)
