"""LEAF JSON: users become clients, their text tokens, their classes classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data import DataSpec, FederatedData
from fedray.data.files.leaf import client_name
from tests.data.reading import inputs, targets


def dump(path: Path, users: dict[str, tuple[list[Any], list[Any]]]) -> Path:
    """Write a LEAF file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {user: {"x": x, "y": y} for user, (x, y) in users.items()}
    path.write_text(json.dumps({"users": list(users), "num_samples": [], "user_data": data}))
    return path


def test_leaf_folder_with_train_and_test(tmp_path: Path) -> None:
    dump(tmp_path / "train" / "1.json", {"u2": ([[1.0, 2.0], [3.0, 4.0]], [0, 2])})
    dump(tmp_path / "train" / "2.json", {"u1": ([[5.0, 6.0]], [1])})
    dump(tmp_path / "test" / "1.json", {"u2": ([[7.0, 8.0]], [2]), "u1": ([[9.0, 0.0]], [0])})
    data = FederatedData.from_leaf(tmp_path)
    assert data.spec == DataSpec((2,), 3)
    assert [data.client_id(i) for i in range(2)] == ["u2", "u1"]
    assert inputs(data, 0).tolist() == [[1, 2], [3, 4]]
    assert targets(data, 1) == [1]
    assert data.test is not None
    assert data.test.x.tolist() == [[7, 8], [9, 0]]


def test_leaf_text_becomes_tokens_of_one_vocabulary(tmp_path: Path) -> None:
    train = dump(tmp_path / "a.json", {"HAMLET": (["to be", "o be "], [" ", "o"]), "PUCK!": (["ob to"], ["b"])})
    test = dump(tmp_path / "t.json", {"HAMLET": (["to ze"], ["z"])})
    data = FederatedData.from_leaf(train, test=test)
    letters = " beotz"
    assert data.spec == DataSpec((5,), 6, "classification", tuple(letters), 6)
    x, y = inputs(data, 0), targets(data, 0)
    assert x.dtype == np.int64
    assert ["".join(letters[token] for token in row) for row in x.tolist()] == ["to be", "o be "]
    assert [letters[token] for token in y] == [" ", "o"]
    assert data.client_id(1) == client_name("PUCK!")


def test_a_user_with_a_value_that_cannot_be_is_named_with_the_row(tmp_path: Path) -> None:
    users = {"u2": ([[1.0], [3.0]], [0, 2]), "u1": ([[5.0], [float("nan")]], [1, 1])}
    with pytest.raises(ConfigError, match=r"x has NaN, .* in row 3 \(row 1 of client 'u1'\); fill in"):
        FederatedData.from_leaf(dump(tmp_path / "a.json", users))


def test_client_names_are_valid_and_stay_apart() -> None:
    assert client_name("f0000_14") == "f0000_14"
    cleaned = [client_name(name) for name in ("a b", "a/b", "a" * 80, "a" * 81)]
    assert len(set(cleaned)) == 4
    assert max(map(len, cleaned)) <= 64
    assert all("/" not in name and " " not in name for name in cleaned)


def test_leaf_mistakes_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "train.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"train\.npz is a file; a folder is needed here, with one file per client"):
        FederatedData.from_folder(tmp_path / "train.npz")
    with pytest.raises(ConfigError, match="does not exist"):
        FederatedData.from_leaf(tmp_path / "nowhere")
    (tmp_path / "e").mkdir()
    with pytest.raises(ConfigError, match=r"no \*\.json file"):
        FederatedData.from_leaf(tmp_path / "e")
    (tmp_path / "bad.json").write_text('{"users": ["a"]}')
    with pytest.raises(ConfigError, match=r"bad\.json is not LEAF JSON"):
        FederatedData.from_leaf(tmp_path / "bad.json")
    uneven = dump(tmp_path / "uneven.json", {"a": ([[1.0]], [0, 1])})
    with pytest.raises(ConfigError, match="user 'a' has 1 inputs and 2 targets"):
        FederatedData.from_leaf(uneven)
    empty = dump(tmp_path / "empty.json", {"a": ([[1.0]], [0]), "b": ([], [])})
    with pytest.raises(ConfigError, match="client 'b' has no training"):
        FederatedData.from_leaf(empty)
    ragged = dump(tmp_path / "ragged.json", {"a": ([[1.0], [1.0, 2.0]], [0, 1])})
    with pytest.raises(ConfigError, match="numbers of one shape"):
        FederatedData.from_leaf(ragged)
    twice = tmp_path / "twice"
    for name in ("1.json", "2.json"):
        dump(twice / name, {"a": ([[1.0]], [0])})
    with pytest.raises(ConfigError, match="user 'a' occurs twice"):
        FederatedData.from_leaf(twice)


def test_classes_written_as_floats_are_classes(tmp_path: Path) -> None:
    """The files that FedProx's authors publish have 4.0."""
    dump(tmp_path / "train" / "1.json", {"a": ([[1.0], [2.0]], [4.0, 0.0]), "b": ([[3.0]], [2.0])})
    dump(tmp_path / "test" / "1.json", {"a": ([[7.0]], [2.0])})
    data = FederatedData.from_leaf(tmp_path)
    assert (data.spec.task, data.spec.outputs) == ("classification", 5)
    assert targets(data, 0) == [4, 0]
    assert data.test is not None
    assert data.test.y.tolist() == [2]
    assert ["read as classes 0 to 4" in warning for warning in data.warnings] == [True]


@pytest.mark.parametrize("targets", [[1.5, 0.0], [-1.0, 0.0], [250_000.0, 1.0]])
def test_other_numbers_stay_targets_of_regression(targets: list[float], tmp_path: Path) -> None:
    data = FederatedData.from_leaf(dump(tmp_path / "1.json", {"a": ([[1.0], [2.0]], targets)}))
    assert (data.spec.task, data.spec.outputs) == ("regression", 1)
    assert data.warnings == ()
