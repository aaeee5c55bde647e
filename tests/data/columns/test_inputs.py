"""Inputs of several columns: what is read, kept, handed out, and trained on, is that of each column alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data.columns.inputs import InputColumns
from fedray.data.columns.rows import Examples

DRAW = np.random.default_rng(0)
N = 45
AGE = DRAW.random((N, 3)).astype("f4")
IDS = DRAW.integers(0, 20, (N, 5))
PICTURE = DRAW.integers(0, 255, (N, 4, 4)).astype("u1")
Y = DRAW.integers(0, 3, N)
CLIENTS = np.repeat([0, 1, 2], [20, 15, 10])
SIDES = {"age": AGE, "ids": IDS, "picture": PICTURE}


def data(x: Any = SIDES, y: Any = Y, **options: Any) -> fedray.FederatedData:
    return fedray.FederatedData.from_arrays(x, y, CLIENTS, test=(x, y), **options)


def test_each_column_is_what_it_is_alone() -> None:
    several = data().with_holdout(0.2, seed=3)
    clients, rows = np.array([2, 0]), np.array([[0, 1, 50], [3, 0, 2]])
    for name, column in SIDES.items():
        alone = data(column).with_holdout(0.2, seed=3)
        for got, want in (
            (several.rows(clients).take(rows)[0][name], alone.rows(clients).take(rows)[0]),
            (several.holdout(clients)[0][name], alone.holdout(clients)[0]),
            (several.test.slice(4, 9)[0][name], alone.test.slice(4, 9)[0]),  # type: ignore[union-attr]
        ):
            assert got.dtype == want.dtype
            assert torch.equal(got, want)
    assert several.spec.inputs == "age 3, ids 5 tokens of 20, picture 4 x 4"
    assert several.notes[0] == (
        "inputs: columns age (numbers), ids (tokens), picture (bytes); the model is called with them by name"
    )


def test_rows_are_sorted_by_client_in_all_columns_together() -> None:
    shuffled = DRAW.permutation(N)
    mixed = fedray.FederatedData.from_arrays(
        {name: column[shuffled] for name, column in SIDES.items()}, Y[shuffled], CLIENTS[shuffled]
    )
    x, y = mixed.rows(np.array([1])).take(np.arange(15)[None])
    place = [int(np.argmax((row.numpy() == AGE).all(axis=1))) for row in x["age"][0]]
    assert sorted(place) == list(range(20, 35))
    assert torch.equal(x["ids"][0], torch.from_numpy(IDS[place]))
    assert torch.equal(y[0], torch.from_numpy(Y[place]))


def test_a_shared_copy_is_the_same_and_a_fingerprint_sees_each_column(tmp_path: Path) -> None:
    several = data()
    copy = several.share(tmp_path)
    assert copy.spec == several.spec
    assert copy.fingerprint() == several.fingerprint()
    x, copied = (found.rows(np.array([1])).take(np.arange(15)[None])[0] for found in (several, copy))
    assert all(torch.equal(x[name], copied[name]) for name in SIDES)
    assert list(copied) == list(SIDES)
    for name in SIDES:
        changed = SIDES[name].copy()
        changed[30] += 1
        marks, others = several.fingerprint(), data({**SIDES, name: changed}).fingerprint()
        assert [client for client in marks if marks[client] != others[client]] == ["1"]


def test_a_function_may_give_columns_client_by_client() -> None:
    def load(client: int) -> tuple[dict[str, Any], Any]:
        own = client == CLIENTS
        return {name: column[own] for name, column in SIDES.items()}, Y[own]

    lazy, stored = fedray.FederatedData.from_function(load, range(3)).with_holdout(0.2, 1), data().with_holdout(0.2, 1)
    assert lazy.spec == stored.spec
    for found, wanted in zip(lazy.holdout(np.array([0, 2])), stored.holdout(np.array([0, 2])), strict=True):
        for name in SIDES if isinstance(found, InputColumns) else ():
            assert torch.equal(found[name], wanted[name])
    x, wanted = (one.rows(np.array([2, 1])).take(np.array([[0, 3], [9, 1]]))[0] for one in (lazy, stored))
    assert all(torch.equal(x[name], wanted[name]) for name in SIDES)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ({"a": AGE, "b": IDS[:40]}, "x: its columns must have as many rows each: a has 45, b has 40"),
        ({"the age": AGE}, "a model is called as model(name=...), and 'the age' is no name of an argument; rename it"),
        ({"class": AGE}, "'class' is no name of an argument"),
        ({}, "x is a dict without columns"),
        ({"a": np.full((N, 1), np.nan)}, "x['a'] has NaN"),
        ((AGE, -IDS), "x[1] holds integers, which are read as tokens, but has negative ones"),
        ({"a": np.array(["x"] * N)}, "x['a'] must be an array of numbers"),
    ],
)
def test_columns_that_cannot_be_are_refused_by_name(x: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        data(x)


def test_a_tuple_of_arrays_is_columns_unless_it_is_rows() -> None:
    assert [column.name for column in data((AGE, IDS)).spec.columns] == ["0", "1"]
    rows = tuple(torch.from_numpy(row) for row in AGE)  # as zip(*dataset) gives them
    assert data(rows).spec.shape == (3,)
    with pytest.raises(ConfigError, match=r"give a dict of columns, or np\.stack"):
        fedray.FederatedData.from_arrays((np.eye(2), np.eye(2)), [0, 1], [0, 0])


def test_a_test_set_must_have_the_same_columns() -> None:
    with pytest.raises(ConfigError, match=r"test: inputs are age 3, expected age 3, ids 5 tokens of 20, picture 4 x 4"):
        fedray.FederatedData.from_arrays(SIDES, Y, CLIENTS, test=({"age": AGE}, Y))
    turned = {name: SIDES[name] for name in reversed(SIDES)}
    found = fedray.FederatedData.from_arrays(SIDES, Y, CLIENTS, test=(turned, Y)).test
    assert isinstance(found, Examples)
    assert torch.equal(found.x["ids"], torch.from_numpy(IDS))
    with pytest.raises(ConfigError, match="token 99 is outside the vocabulary of 20 of ids"):
        fedray.FederatedData.from_arrays(SIDES, Y, CLIENTS, spec=data().spec, test=({**SIDES, "ids": IDS * 0 + 99}, Y))


def test_models_of_a_config_want_one_input() -> None:
    with pytest.raises(ConfigError, match="logistic needs numeric inputs; the data has several columns"):
        run("logistic", data())


class Joined(nn.Module):
    """A model of one packed input, in the order of SIDES."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 2), nn.Linear(3 + 10 + 16, 3)

    def forward(self, packed: Tensor) -> Tensor:
        ids = self.embed(packed[:, 3:8].long()).flatten(1)
        logits: Tensor = self.head(torch.cat([packed[:, :3], ids, packed[:, 8:]], dim=1))
        return logits


class ByName(Joined):
    """The same of several."""

    def forward(self, ids: Tensor, picture: Tensor, age: Tensor) -> Tensor:  # type: ignore[override]
        assert not ids.is_floating_point()
        return super().forward(torch.cat([age, ids.float(), picture.flatten(1)], dim=1))


class ByPlace(Joined):
    """The same by place."""

    def forward(self, age: Tensor, ids: Tensor, picture: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([age, ids.float(), picture.flatten(1)], dim=1))


def run(model: str | Callable[[], nn.Module], federated: fedray.FederatedData, **options: Any) -> Any:
    algorithm = options.pop("algorithm", None)
    args = fedray.TrainArgs(rounds=2, seed=5, evaluate_clients_every=1, batch_size=8, **options)
    built = fedray.FederatedModel(model, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    return fedray.train(
        built, federated.with_holdout(0.2, seed=0), args, algorithm=algorithm, cluster="inline", progress=False
    )


PACKED = np.concatenate([AGE, IDS.astype("f4"), PICTURE.reshape(N, -1).astype("f4") / 255], axis=1)


@pytest.mark.parametrize("stack", ["auto", "off"])
def test_a_run_on_columns_is_the_run_on_one_packed_tensor(
    stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [
        run(model, data(x), stack=stack)
        for model, x in ((Joined, PACKED), (ByName, SIDES), (ByPlace, tuple(SIDES.values())))
    ]
    for other in found[1:]:
        assert other.history[-1].model_sha256 == found[0].history[-1].model_sha256
        assert other.history[-1].test == found[0].history[-1].test
        assert other.history[-1].clients_test == found[0].history[-1].clients_test
    packed, several = (fedray.load(one.run_dir, model=m) for one, m in zip(found, (Joined, ByName), strict=False))
    assert np.array_equal(several.predict(SIDES).outputs, packed.predict(PACKED).outputs)
    with pytest.raises(ConfigError, match="rows: inputs are age 3, expected age 3, ids 5 tokens of 20, picture 4 x 4"):
        several.predict({"age": AGE})


def test_programs_with_other_forwards_run_on_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for algorithm in (fedray.Scaffold(), fedray.Ditto(), fedray.FedSAM()):
        packed, several = (run(m, data(x), algorithm=algorithm) for m, x in ((Joined, PACKED), (ByName, SIDES)))
        assert several.history[-1].model_sha256 == packed.history[-1].model_sha256
