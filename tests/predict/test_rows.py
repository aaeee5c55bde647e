"""Files of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.predict.rows import read_rows
from tests.data.files.test_pictures import encoded


def test_arrays_are_read_and_tables_are_left_to_their_reader(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    np.savez(tmp_path / "b.npz", x=np.arange(3), y=np.zeros(3))
    np.savez(tmp_path / "c.npz", inputs=np.arange(3))
    assert read_rows(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
    assert read_rows(tmp_path / "b.npz").tolist() == [0, 1, 2]
    assert read_rows(tmp_path / "d.csv") == tmp_path / "d.csv"
    assert read_rows(tmp_path / "c.npz")["inputs"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "g.npz", x=np.arange(3), x_offsets=np.array([0, 1, 3]))
    assert read_rows(tmp_path / "g.npz").dense().tolist() == [[0, 0], [1, 2]]
    (tmp_path / "e.npy").write_text("no array")
    for name, said in {"e.npy": "e.npy: cannot be read", "f.npz": "f.npz does not exist"}.items():
        with pytest.raises(ConfigError, match=said):
            read_rows(tmp_path / name)


def test_columns_are_read_as_the_run_that_trained_on_them_read_them(tmp_path: Path) -> None:
    pixels = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    rows = {"words": [[3], [4, 5]], "image": [encoded(one) for one in pixels], "patient": ["x", "y"]}
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "new.parquet")
    spec = FederatedData.from_arrays(
        {"words": np.ones((2, 3), int), "mask": np.ones((2, 3), int), "image": pixels}, [0, 1], [0, 1]
    ).spec
    said = {"name": "parquet", "path": "gone", "target": "y", "split": "fold", "ragged": {"words": {"mask": "mask"}}}
    found = read_rows(tmp_path / "new.parquet", spec, said)
    assert list(found) == ["words", "image"]
    assert found["words"].mask == "mask"
    assert np.array_equal(found["image"], pixels[:, None])
    assert read_rows(tmp_path / "new.parquet") == tmp_path / "new.parquet"  # a table
    np.savez(tmp_path / "g.npz", x=np.arange(3), x_offsets=np.array([0, 1, 3]))
    said = {"name": "folder", "ragged": {"x": {"mask": "mask"}, "y": {"pad": 3}}}
    assert read_rows(tmp_path / "g.npz", spec, said)["x"].mask == "mask"
