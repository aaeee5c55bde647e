"""A folder with one file per client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from tests.data.reading import inputs


def test_parquet_folder_is_read_as_csv_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "clients"
    folder.mkdir()
    tables = {
        "b": {"age": [30, None], "smoker": [True, False], "ward": ["x", "y"], "y": ["no", "yes"]},
        "a": {"ward": ["x"], "smoker": [True], "age": [50], "y": ["yes"]},
    }
    for name, columns in tables.items():
        pyarrow.parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    pyarrow.parquet.write_table(pa.table(tables["a"]), tmp_path / "test.parquet")
    data = FederatedData.from_folder(
        folder, target="y", categorical=["ward"], standardize=False, test=tmp_path / "test.parquet"
    )
    assert [data.client_id(i) for i in range(2)] == ["a", "b"]
    # The columns of the first file: ward (x, y), smoker, age.
    assert inputs(data, 0).tolist() == [[1, 0, 1, 50]]
    assert inputs(data, 1).tolist() == [[1, 0, 1, 30], [0, 1, 0, 40]]
    assert data.test is not None
    assert data.test.x.tolist() == [[1, 0, 1, 50]]
    with pytest.raises(ConfigError, match=r"a\.parquet, row 1, column 'ward': 'x' is not a number"):
        FederatedData.from_folder(folder, target="y")
    with pytest.raises(ConfigError, match="need the name of the target"):
        FederatedData.from_folder(folder)
    (folder / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match=r"c\.parquet cannot be read as Parquet"):
        FederatedData.from_folder(folder, target="y")


def test_npz_folder_gives_one_client_per_file(tmp_path: Path) -> None:
    for name, size in (("b", 2), ("a", 3)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((size, 1, 4, 4), size, dtype=np.uint8), y=np.arange(size))
    np.savez(tmp_path / "test.npz", x=np.zeros((1, 1, 4, 4), dtype=np.uint8), y=np.array([2]))
    data = FederatedData.from_folder(tmp_path, test=tmp_path / "test.npz")
    assert [data.client_id(i) for i in range(len(data))] == ["a", "b"]
    assert data.sizes.tolist() == [3, 2]
    assert np.array_equal(inputs(data, 1), np.full((2, 1, 4, 4), 2.0, np.float32) / 255)
    assert data.test is not None
    assert len(data.test) == 1
    with pytest.raises(ConfigError, match="no target column"):
        FederatedData.from_folder(tmp_path, target="y")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": np.zeros((2, 3)), "labels": np.zeros(2)}, r"must hold arrays x and y; it has: x, labels"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3, dtype=int)}, r"one row per example"),
        (
            {"age": np.zeros((2, 1)), "y": np.zeros(2, dtype=int)},
            r"b\.npz has the arrays age, y, but .*a\.npz has x, y",
        ),
        ({"y": np.zeros(2, dtype=int)}, r"must hold inputs: an array x, or several by their names; it has: y"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, dtype=int)}, r"b\.npz has no rows"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, -1])}, r"class indices in row 2 \(row 1 of client 'b'\); classes"),
        ({"x": np.zeros((1, 3)), "y": np.zeros(1, dtype=int)}, r"b\.npz: x has rows \(3,\) of float64, but .*a\.npz"),
        ({"x": np.array([[{}]], dtype=object), "y": np.zeros(1, dtype=int)}, r"without pickled objects"),
    ],
)
def test_npz_mistakes_are_clear_errors(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 2)), y=np.zeros(1, dtype=int))
    np.savez(tmp_path / "b.npz", **columns)
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_folder(tmp_path)


def test_npz_files_may_hold_sequences_of_different_lengths(tmp_path: Path) -> None:
    for name, last in (("a", 3), ("b", 5)):
        offsets = np.array([0, 1, last])
        np.savez(
            tmp_path / f"{name}.npz", x=np.arange(last), x_offsets=offsets, y=np.arange(last) % 2, y_offsets=offsets
        )
    data = FederatedData.from_folder(tmp_path)
    assert inputs(data, 0).tolist() == [[0, 0, 0, 0], [1, 2, 0, 0]]
    assert data.targets(1).tolist() == [[0, 2, 2, 2], [1, 0, 1, 0]]
    np.savez(tmp_path / "c.npz", x=np.arange(3), x_offsets=np.array([0, 4]))
    with pytest.raises(ConfigError, match=r"c\.npz: x: ragged: offsets must rise from 0 to the number of values, 3"):
        FederatedData.from_folder(tmp_path)
    np.savez(tmp_path / "c.npz", x=np.zeros((1, 3), int), y=np.zeros(3, int), y_offsets=np.array([0, 3]))
    with pytest.raises(
        ConfigError, match=r"c\.npz: x has rows \(3,\) of int64, but .* has of different lengths of int64"
    ):
        FederatedData.from_folder(tmp_path)


def test_folder_mistakes_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        FederatedData.from_folder(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="one per client is expected"):
        FederatedData.from_folder(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 2)), y=np.zeros(1, dtype=int))
    with pytest.raises(ConfigError, match=r"must be a \.npz file"):
        FederatedData.from_folder(tmp_path, test="t.parquet")
    (tmp_path / "z.npz").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match=r"z\.npz cannot be read"):
        FederatedData.from_folder(tmp_path)
    (tmp_path / "b.parquet").touch()
    with pytest.raises(ConfigError, match="several kinds"):
        FederatedData.from_folder(tmp_path)


def test_npz_files_may_hold_columns_by_name_and_no_targets(tmp_path: Path) -> None:
    for name, rows in (("a", 2), ("b", 3)):
        np.savez(tmp_path / f"{name}.npz", age=np.full((rows, 1), rows, "f4"), ids=np.ones((rows, 4), int))
    np.savez(tmp_path / "test.npz", age=np.zeros((1, 1), "f4"), ids=np.ones((1, 4), int))
    data = FederatedData.from_folder(tmp_path, test=tmp_path / "test.npz")
    assert data.spec.inputs == "age 1, ids 4 tokens of 2"
    assert data.spec.targets == "no target"
    x, y = data.rows(np.array([1])).take(np.arange(3)[None])
    assert x["age"][0, :, 0].tolist() == [3.0, 3.0, 3.0]
    assert y.shape == (1, 3, 0)


def test_sequences_of_npz_files_have_the_options_of_ragged(tmp_path: Path) -> None:
    for name, last in (("a", 3), ("b", 5)):
        np.savez(tmp_path / f"{name}.npz", x=np.arange(1, last + 1), x_offsets=np.array([0, 1, last]), y=np.arange(2))
    ragged = {"x": {"length": 3, "pad": 9, "mask": "mask", "lengths": "lengths"}}
    data = FederatedData.from_folder(tmp_path, ragged=ragged, test={"b": tmp_path / "a.npz"})
    x, _ = data.rows(np.array([0])).take(np.array([[0, 1]]))  # b alone trains: a is its test set
    assert x["x"].tolist() == [[[1, 9, 9], [2, 3, 4]]]
    assert x["mask"].tolist() == [[[1, 0, 0], [1, 1, 1]]]
    assert x["lengths"].tolist() == [[1, 3]]
    assert data.test is not None
    assert data.test.clients is not None
    assert data.test.clients.tolist() == [0, 0]
    for wrong, said in {
        "z": r"b\.npz: data\.ragged\.z: there are no arrays z and z_offsets; it has: x, x_offsets, y",
        "x": r"b\.npz: x: data\.ragged\.x\.lenght: unknown key.*length",
    }.items():
        with pytest.raises(ConfigError, match=said):
            FederatedData.from_folder(tmp_path, ragged={wrong: {"lenght": 3}}, test=[tmp_path / "a.npz"])
