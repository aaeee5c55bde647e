"""Hugging Face data sets become clients, or one clear error."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from tests.data.reading import everything, load


def test_huggingface_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[huggingface\]'"):
        load(name="huggingface", path=str(tmp_path), input="x", target="y", partition={"name": "iid"})


class Split:
    """What this package uses of a ``datasets.Dataset``."""

    def __init__(self, columns: dict[str, list[Any]], names: list[str] | None = None) -> None:
        self.columns = columns
        self.features = {name: types.SimpleNamespace(**({"names": names} if names else {})) for name in columns}

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]


def test_huggingface_columns_become_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Split({"ids": [[1, 2], [3, 9], [5, 6]], "label": [0, 1, 0], "who": ["b", "a", "b"]}, ["neg", "pos", "odd"])
    test = Split({"ids": [[1, 11]], "label": [2], "who": ["c"]})
    saved = {"train": train, "test": test}
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_from_disk=lambda path: saved))
    node: dict[str, Any] = {
        "name": "huggingface", "path": str(tmp_path), "input": "ids", "target": "label", "test_split": "test",
        "partition": {"name": "column", "column": "who"},
    }  # fmt: skip
    data = load(**node)
    assert data.spec == DataSpec((2,), 3, "classification", ("neg", "pos", "odd"), 12)
    assert [data.client_id(i) for i in range(2)] == ["a", "b"]
    assert everything(data)[0].tolist() == [[3, 9], [1, 2], [5, 6]]
    for change, message in (
        ({"input": "id"}, r"no column 'id' \(did you mean 'ids'\?\)"),
        ({"split": "trian"}, r"data\.split: .*did you mean 'train'"),
        ({"test_split": "tset"}, r"data\.test_split: .*did you mean 'test'"),
        ({"input": "who"}, "is text"),
        ({"path": "nowhere"}, "does not exist"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(**node | change)
    train.columns["ids"][0] = [1]
    with pytest.raises(ConfigError, match="rows of different shapes"):
        load(**node)
