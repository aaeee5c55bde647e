"""Files of rows of models of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.spec import DataSpec
from fedray.predict.rows import encoded_rows, read_rows, taken_by
from fedray.run.meaning import Meaning
from tests.data.files.test_pictures import encoded

ONE = DataSpec((), 2)


def read(path: Path, spec: DataSpec = ONE, **taken: Any) -> Any:
    return read_rows(path, spec, taken)[0]


def test_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    np.savez(tmp_path / "b.npz", x=np.arange(3), y=np.zeros(3))
    np.savez(tmp_path / "c.npz", inputs=np.arange(3))
    assert read(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
    assert read(tmp_path / "b.npz").tolist() == [0, 1, 2]
    assert read(tmp_path / "c.npz")["inputs"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "g.npz", x=np.arange(3), x_offsets=np.array([0, 1, 3]), patient=np.array([7, 8]))
    assert read(tmp_path / "g.npz", columns=["x"]).dense().tolist() == [[0, 0], [1, 2]]
    assert read(tmp_path / "g.npz", columns=["x"], ragged={"x": {"mask": "mask"}, "y": {"pad": 3}})["x"].mask == "mask"
    (tmp_path / "e.npy").write_text("no array")
    with pytest.raises(ConfigError, match=r"g.npz has no array 'age'; it has: x, patient"):
        read(tmp_path / "g.npz", columns=["x", "age"])
    for name, said in {
        "e.npy": "e.npy: cannot be read",
        "f.npz": "f.npz does not exist",
        "d.csv": r"d.csv: this model was not trained on tables, but on arrays, 1 for each example; a file called \.npy",
    }.items():
        with pytest.raises(ConfigError, match=said):
            read(tmp_path / name)


def test_columns_are_read_as_the_run_that_trained_on_them_read_them(tmp_path: Path) -> None:
    pixels = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    rows = {"patient": ["x", "y"], "words": [[3], [4, 5]], "image": [encoded(one) for one in pixels], "seen": [1, 2]}
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "new.parquet")
    inputs = {"words": np.ones((2, 3), int), "mask": np.ones((2, 3), int), "image": pixels}
    spec = FederatedData.from_arrays(inputs, [0, 1], [0, 1]).spec
    said = {"ragged": {"words": {"mask": "mask"}}}
    for taken in (
        {"columns": ["image", "words"], **said, "pictures": {"image": {}}},
        {"name": "parquet", "path": "gone", "target": "y", "split": "fold", **said},  # of a config
    ):
        found, rest = read_rows(tmp_path / "new.parquet", spec, taken)
        assert set(found) == {"words", "image"}
        assert found["words"].mask == "mask"
        assert np.array_equal(found["image"], pixels[:, None])
        assert {name: one.to_pylist() for name, one in rest.items()} == {"patient": ["x", "y"], "seen": [1, 2]}
    with pytest.raises(ConfigError, match="has no column 'age'; it has patient, words"):
        read(tmp_path / "new.parquet", columns=["age"])


def test_of_an_earlier_checkpoint_the_config_says_what_columns_are() -> None:
    class Rest:
        def section(self, key: str) -> Any:
            return {"name": "parquet", "path": "rows"} if key == "data" else None

    meaning = Meaning(ONE, (), {"name": "classification"}, {"columns": ["x"]})
    assert taken_by(meaning, Rest()) == {"columns": ["x"]}  # type: ignore[arg-type]
    assert taken_by(Meaning(ONE, (), None), Rest()) == {"name": "parquet", "path": "rows"}  # type: ignore[arg-type]


def test_impossible_numbers_of_columns_beside_arrays_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = {"signal": [[1.0, 2.0]] * 3, "age": [50, 5000, 62]}
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "new.parquet")
    encoding = Encoding(Options("ill"), {"age": (60.0, 10.0, 60.0)}, {}, ["age"], None, beside=True)
    inputs = {"signal": np.ones((2, 2), np.float32), "age": np.ones((2, 1), np.float32)}
    spec = FederatedData.from_arrays(inputs, [0, 1], [0, 1]).spec
    taken = {"columns": ["signal", "age"], "encode": ["age"]}
    read_rows(tmp_path / "new.parquet", spec, taken, encoding)
    encoded_rows(rows, spec, taken, encoding)
    in_file, in_memory = caplog.messages
    assert "new.parquet: 1 number further than 10 standard deviations" in in_file
    assert "row 2, column 'age': 5000 (mean 60)" in in_file
    assert "row 2, column 'age': 5000 (mean 60)" in in_memory
