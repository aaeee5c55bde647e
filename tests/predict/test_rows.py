"""Files of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.predict.rows import read_rows


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
