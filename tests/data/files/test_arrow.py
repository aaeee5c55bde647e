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
from tests.data.files.test_pictures import encoded
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
        ({"pixels": pa.array([b"\x89PNG"] * 6)}, {"shapes": SHAPES}, "row 1: 4 bytes for.*an encoded picture: leave"),
        (
            {"pixels": pa.array([{"bytes": None, "path": "a.png"}] * 6)},
            {},
            "row 1: there is the path of a picture, and",
        ),
        ({}, {"shapes": SHAPES, "pictures": {"age": {}}}, "pictures is for bytes of encoded pictures.*this is float"),
        ({}, {"shapes": SHAPES, "pictures": {"pixels": {}}}, "`pictures` is for encoded pictures, `shapes` for other"),
        ({"fold": pa.array(["train", "val"] * 3)}, {"shapes": SHAPES, "split": "fold"}, "this column has val; leave"),
        ({"fold": pa.array([True] * 6)}, {"shapes": SHAPES, "split": "fold"}, "all rows are of the test set"),
        ({"fold": pa.array([0, 1] * 3)}, {"shapes": SHAPES, "split": "fold"}, "or booleans are needed, this is int64"),
        ({}, {"shapes": SHAPES, "split": "y", "test": "t.parquet"}, "test: the column `split` says which rows are"),
        ({}, {"shapes": SHAPES, "test": {"ann": "t.parquet"}}, "test: one file, or a folder, is needed beside `client"),
        ({"who": pa.array([*WHO[:5], None])}, {"shapes": SHAPES}, "column 'who': 1 rows do not say whose they are"),
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


def test_encoded_pictures_are_decoded_also_as_hugging_face_has_them_and_as_masks(tmp_path: Path) -> None:
    files = [encoded(one) for one in PIXELS]
    masks = DRAW.integers(0, 3, (6, 4, 5)).astype("u1")
    rows = pa.table(
        {
            "image": pa.array([{"bytes": one, "path": "a.png"} for one in files]),
            "second": pa.array(files),
            "mask": pa.array([encoded(one) for one in masks]),
            "who": pa.array(WHO),
        }
    )
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet", row_group_size=4)
    node: dict[str, Any] = {"name": "parquet", "path": str(tmp_path / "a.parquet"), "client": "who"}
    data = load(**node, target="mask", pictures={"second": {"size": [8, 10], "mode": "RGB"}})
    x, y = data.rows(np.arange(1)).take(np.array([[0, 1]]))
    assert np.array_equal((x["image"][0] * 255).round().numpy(), PIXELS[:2, None])
    assert x["second"].shape == (1, 2, 3, 8, 10)
    assert np.array_equal(y[0].numpy(), masks[:2])
    assert data.spec.outputs == 3


def test_own_test_rows_are_named_by_a_column_by_files_or_by_a_split(tmp_path: Path) -> None:
    rows = pa.table({"age": pa.array(AGE), "y": pa.array(Y % 2), "who": pa.array(WHO)})
    apart = pa.table({"age": pa.array(AGE[:3]), "y": pa.array(Y[:3] % 2), "who": pa.array(["bob", "eve", "ann"])})
    (tmp_path / "shards").mkdir()
    (tmp_path / "tests").mkdir()
    pyarrow.parquet.write_table(rows[:2], tmp_path / "shards" / "0.parquet")
    pyarrow.parquet.write_table(rows[2:], tmp_path / "shards" / "1.parquet")
    pyarrow.parquet.write_table(apart, tmp_path / "t.parquet")
    pyarrow.parquet.write_table(apart.drop_columns("who"), tmp_path / "tests" / "1.parquet")
    node: dict[str, Any] = {"name": "parquet", "path": str(tmp_path / "shards"), "target": "y"}

    def owners(**options: Any) -> list[int]:
        test = load(**node, **options).test
        assert test is not None
        assert test.clients is not None
        return list(test.clients)

    assert owners(client="who", test=str(tmp_path / "t.parquet")) == [1, -1, 0]
    beside = {"columns": ["age"], "test": str(tmp_path / "tests")}
    assert owners(**beside) == [1, 1, 1]
    assert owners(**{**beside, "test": {"0": str(tmp_path / "tests" / "1.parquet")}}) == [0, 0, 0]
    split = rows.append_column("fold", pa.array(["train", "test", "train", "train", "test", "test"]))
    pyarrow.parquet.write_table(split, tmp_path / "split.parquet")
    data = load(name="parquet", path=str(tmp_path / "split.parquet"), target="y", client="who", split="fold")
    assert data.test is not None
    assert [data.client_id(place) for place in range(len(data))] == ["ann", "bob"]
    assert list(data.sizes) == [1, 2]
    assert data.test.clients is not None
    assert list(data.test.clients) == [0, 1, -1]  # cem has a test row, and none to train on
    (tmp_path / "own").mkdir()
    for place in (0, 1):
        own = split[3 * place : 3 * place + 3].drop_columns("who")
        pyarrow.feather.write_feather(own, tmp_path / "own" / f"{place}.arrow")
    data = load(name="parquet", path=str(tmp_path / "own"), target="y", split="fold")
    assert data.test is not None
    assert data.test.clients is not None
    assert (list(data.sizes), list(data.test.clients)) == ([2, 1], [0, 1, 1])
