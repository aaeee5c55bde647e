"""Columns of Parquet and Arrow files: the arrays that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

import fedray
from fedray.core.errors import ConfigError
from tests.data.reading import load

DRAW = np.random.default_rng(0)
AGE = DRAW.random(6).astype("f4")
SIGNS = DRAW.random((6, 3)).astype("f4")
PIXELS = DRAW.integers(0, 255, (6, 4, 5)).astype("u1")
WORDS = [[3, 1], [2], [], [5, 5, 5], [1], [4, 2]]
Y = np.array([0, 1, 1, 0, 2, 1])
WHO = ["ann", "ann", "bob", "bob", "bob", "cem"]
SHAPES = {"pixels": [4, 5]}


def table(**changed: Any) -> pa.Table:
    columns = {
        "age": pa.array(AGE),
        "signs": pa.FixedSizeListArray.from_arrays(pa.array(SIGNS.ravel()), 3),
        "pixels": pa.array([one.tobytes() for one in PIXELS]),
        "words": pa.array(WORDS, pa.list_(pa.int32())),
        "y": pa.array(Y),
        "who": pa.array(WHO),
    }
    return pa.table({**columns, **changed})


def test_columns_are_the_arrays_that_were_written(tmp_path: Path) -> None:
    rows = table()
    pyarrow.parquet.write_table(rows, tmp_path / "all.parquet", row_group_size=2)
    (tmp_path / "clients").mkdir()
    for name in ("ann", "bob", "cem"):
        own = rows.filter(pa.array([who == name for who in WHO])).drop_columns("who")
        pyarrow.feather.write_feather(own, tmp_path / "clients" / f"{name}.arrow")
    node: dict[str, Any] = {"name": "parquet", "target": "y", "shapes": SHAPES, "ragged": {"words": {"mask": "mask"}}}
    ragged = fedray.Ragged.of(WORDS, mask="mask")
    columns = {"age": AGE[:, None], "signs": SIGNS, "pixels": PIXELS, "words": ragged}
    want = fedray.FederatedData.from_arrays(columns, Y, WHO, test=(columns, Y))
    several = load(**node, path=str(tmp_path / "clients"))
    single = load(**node, path=str(tmp_path / "all.parquet"), client="who", test=str(tmp_path / "all.parquet"))
    places = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    for data in (several, single):
        assert data.spec == want.spec
        assert [data.client_id(place) for place in range(3)] == ["ann", "bob", "cem"]
        (x, y), (right, labels) = (one.rows(np.arange(3)).take(places) for one in (data, want))
        assert y.equal(labels)
        assert {name: x[name].equal(right[name]) for name in x} == dict.fromkeys(right, True)
    assert single.test is not None
    assert len(single.test) == 6


def test_one_column_is_the_input_itself_and_targets_may_be_lists(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(tags=pa.array([[w % 2 for w in row] for row in WORDS])), tmp_path / "a.parquet")
    node: dict[str, Any] = {
        "name": "parquet",
        "path": str(tmp_path / "a.parquet"),
        "client": "who",
        "columns": ["words"],
    }
    data = load(**node, target="tags")
    assert (data.spec.shape, data.spec.padding) == ((3,), 2)
    assert data.targets(0).tolist() == [[1, 1, 2], [0, 2, 2]]
    assert load(**node).spec.outputs == 6  # tokens, which are their own targets


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({}, {}, "column 'pixels': bytes need their shape"),
        ({}, {"shapes": {"pixels": [4, 6]}}, r"column 'pixels', row 1: 20 bytes for the shape \[4, 6\]"),
        ({}, {"shapes": {**SHAPES, "words": [2]}}, r"column 'words', row 2: 1 values for the shape \[2\]"),
        ({"age": pa.array(["x"] * 6)}, {"shapes": SHAPES}, "column 'age': string is no number, list or bytes"),
        ({"age": pa.array([1.0] * 5 + [None])}, {"shapes": SHAPES}, "column 'age': 1 values are missing"),
        ({}, {"shapes": SHAPES, "ragged": {"age": {}}}, "ragged is for lists of different lengths; this is float"),
        ({}, {"shapes": SHAPES, "ragged": {"words": {"lenght": 2}}}, "data.ragged.words.lenght: unknown key.*length"),
        ({}, {"columns": ["agee"]}, "has no column 'agee'; it has age, signs"),
        ({}, {"shapes": SHAPES, "client": None}, "is one file: name the column that says whose a row is"),
    ],
)
def test_what_is_no_array_is_said(changed: Any, options: Any, said: str, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(**changed), tmp_path / "a.parquet")
    node = {"name": "parquet", "path": str(tmp_path / "a.parquet"), "target": "y", "client": "who", **options}
    with pytest.raises(ConfigError, match=said):
        load(**node)
