"""The file of the clients' labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fedray.tracking.base import RunInfo
from fedray.tracking.labels import Labels


def test_names_of_clients_and_classes_are_kept(tmp_path: Path) -> None:
    counts = np.array([[3, 1], [0, 2]])
    Labels().start(RunInfo(tmp_path, "x", 1, label_counts=counts, client_names=["änn", "bob"], classes=["a", "b"]))
    said = json.loads((tmp_path / "labels.json").read_bytes())
    assert said == {"clients": ["änn", "bob"], "classes": ["a", "b"], "of": 2, "counts": [[3, 1], [0, 2]]}


def test_of_very_many_clients_some_are_kept_by_their_numbers(tmp_path: Path) -> None:
    counts = np.arange(3000).reshape(1500, 2)
    Labels().start(RunInfo(tmp_path, "x", 1, label_counts=counts, client_names=["ann"]))
    said = json.loads((tmp_path / "labels.json").read_bytes())
    assert (len(said["clients"]), said["of"]) == (1000, 1500)
    assert said["clients"][-1] == "1499"
    assert said["counts"] == counts[[int(name) for name in said["clients"]]].tolist()


def test_without_classes_there_is_no_file(tmp_path: Path) -> None:
    Labels().start(RunInfo(tmp_path, "x", 1))
    assert list(tmp_path.iterdir()) == []
