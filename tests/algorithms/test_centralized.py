"""Centralized training: on all rows, with the work of a federated round, judged as the clients are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data.columns.base import ClientData
from tests.helpers import relative

DRAW = np.random.default_rng(3)
X = DRAW.standard_normal((60, 5)).astype("f4")
Y = (X @ DRAW.standard_normal((5, 3))).argmax(axis=1)
OWNER = np.repeat(["a", "b", "c"], [10, 20, 30])


def ran(data: ClientData, folder: Path, algorithm: Any, **options: Any) -> fedray.Result:
    def linear() -> nn.Module:
        torch.manual_seed(1)
        return nn.Linear(5, 3)

    parts = {name: options.pop(name) for name in ("sampler", "attack", "resume") if name in options}
    args = fedray.TrainArgs(**{"rounds": 3, "tracking": [], "evaluate_clients_every": 1, **options})
    model = fedray.FederatedModel(linear)
    return fedray.train(
        model, data, args, algorithm=algorithm, cluster="inline", run_dir=folder, progress=False, **parts
    )


def data_of(owner: Any) -> ClientData:
    return fedray.FederatedData.from_arrays(X, Y, owner, test=(X, Y)).with_holdout(0.2, 0)


def test_it_is_training_on_all_rows_judged_on_the_clients(tmp_path: Path) -> None:
    """Full batches: each of 2 of 3 clients takes 3 steps a round, so that the one with all rows takes 6."""
    clients = data_of(OWNER)
    full = {"epochs": 3, "batch_size": None}
    result = ran(clients, tmp_path / "run", fedray.Centralized(), sampler=fedray.Uniform(2), **full)
    torch.manual_seed(1)
    module = nn.Linear(5, 3).double()
    rows = [clients.rows(np.array([c])).take(np.arange(clients.sizes[c])[None]) for c in range(3)]
    x, y = torch.cat([pair[0][0] for pair in rows]).double(), torch.cat([pair[1][0] for pair in rows])
    for _ in range(3 * 6):
        module.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
    assert relative(result.model.state_dict()["weight"].double(), module.weight.detach()) < 1e-5
    assert [(record.clients["sampled"], record.examples) for record in result.history] == [(1, 6 * len(x))] * 3
    table = result.clients().to_pylist()
    seen = {row["client"]: row["accuracy"] for row in table if (row["round"], row["view"]) == (3, "global")}
    assert seen.keys() == {"a", "b", "c"}
    for place, name in enumerate("abc"):
        held_x, held_y, _ = clients.holdout(np.array([place]))
        assert seen[name] == pytest.approx(float((module(held_x.double()).argmax(dim=1) == held_y).double().mean()))


def test_a_run_goes_on_and_has_the_bits_of_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole = ran(data_of(OWNER), tmp_path / "whole", fedray.Centralized(), rounds=4)
    ran(data_of(OWNER), tmp_path / "run", fedray.Centralized(), rounds=2)
    late = ran(data_of(OWNER), tmp_path / "run", fedray.Centralized(), rounds=4, resume=True)
    hashes = [[record.model_sha256 for record in result.history] for result in (whole, late)]
    assert hashes[0] == hashes[1]
    assert late.clients().equals(whole.clients())


@pytest.mark.parametrize(
    ("options", "key"),
    [({"dropout": 0.2}, "failures.dropout"), ({"attack": fedray.SignFlip(clients=0.4)}, "attack")],
)
def test_what_speaks_of_other_clients_is_refused(options: dict[str, Any], key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{key}: with centralized there is one client alone"):
        ran(data_of(OWNER), tmp_path / "run", fedray.Centralized(), **options)
