"""Every key that a summary can have is in the table of the docs, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fedray
from fedray.core.errors import RunFailed
from fedray.run.summary import KEYS
from tests.privacy.test_runs import train as privately

DATA = {"name": "synthetic", "clients": 2, "examples": 4, "features": 2, "classes": 2, "test": 4}


class Always(torch.nn.Linear):
    """A model that says the first class."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.constant_(self.bias[0], 9.0)


def train(
    folder: Path, loss: Any = None, callbacks: Any = (), named: Any = "logistic", test: int = 4, **options: Any
) -> None:
    model = fedray.FederatedModel(named, loss_fn=loss)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": folder, "progress": False, "callbacks": callbacks}
    place["resume"] = options.pop("resume", False)
    fedray.train(model, {**DATA, "test": test}, fedray.TrainArgs(rounds=2, tracking=[], **options), **place)


def test_the_keys_of_runs_of_every_end_are_those_that_are_told(tmp_path: Path) -> None:
    privately(tmp_path / "finished", options={"rounds": 1})
    train(tmp_path / "budget", checkpoint_best="test.loss", last_round=1)
    for folder in ("early", "on"):
        train(tmp_path / folder, callbacks=[lambda record: True])
    train(tmp_path / "on", resume=True)
    train(tmp_path / "one", named=Always, test=40, optimizer={"name": "sgd", "lr": 1e-6})
    with pytest.raises(RunFailed):
        train(tmp_path / "failed", lambda output, y: output.sum() / 0, on_nonfinite="abort")
    found = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/summary.json")}
    statuses = {"finished": "finished", "budget": "budget", "early": "early_stopped", "failed": "failed"}
    statuses |= {"one": "finished", "on": "finished"}
    assert {name: one["status"] for name, one in found.items()} == statuses
    failures = found["failed"]["failures"]
    assert [(one["client"], one["stage"]) for one in failures] == [("0", "update"), ("1", "update")]
    assert {key for one in found.values() for key in one} == set(KEYS)
