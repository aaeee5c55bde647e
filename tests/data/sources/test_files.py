"""Sections that read the user's tables and folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.data.tables.hospitals import TARGET, write_hospitals
from tests.data.reading import everything, load


def test_hospitals_load_as_a_csv_section(tmp_path: Path) -> None:
    paths, test = write_hospitals(tmp_path)
    data = load(name="csv", train=[str(p) for p in paths], test=str(test), target=TARGET, holdout=0.2)
    assert data.spec == DataSpec((30,), 2, classes=("benign", "malignant"))
    assert [data.client_id(i) for i in range(5)] == [path.stem for path in paths]
    assert data.holdout_sizes.tolist() == [32, 24, 16, 11, 8]
    pooled = load(name="csv", train=[str(p) for p in paths], target=TARGET, partition={"name": "iid", "clients": 7})
    assert (len(pooled), pooled.client_id(0)) == (7, "0")
    np.testing.assert_allclose(
        np.sort(everything(pooled)[0], axis=0),
        np.sort(everything(load(name="csv", train=[str(p) for p in paths], target=TARGET))[0], axis=0),
        atol=1e-6,
    )


def test_leaf_femnist_and_folder_sections(tmp_path: Path) -> None:
    users = {"w1": {"x": [[0.5] * 784], "y": [61]}, "w2": {"x": [[0.25] * 784] * 2, "y": [3, 4]}}
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"users": list(users), "user_data": users}))
    assert load(name="femnist", path=str(path), test=str(path)).spec == DataSpec((1, 28, 28), 62)
    assert load(name="leaf", path=str(path)).spec == DataSpec((784,), 62)
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.arange(2))
    assert load(name="folder", path=str(tmp_path)).client_id(0) == "a"
    path.write_text(json.dumps({"users": ["u"], "user_data": {"u": {"x": [[0.5]], "y": [1]}}}))
    with pytest.raises(ConfigError, match="inputs have 1 numbers, expected 784"):
        load(name="femnist", path=str(path))
