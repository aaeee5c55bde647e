"""Every key that a summary can have is in the table of the docs, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedray
from fedray.core.errors import RunFailed
from fedray.run.summary import KEYS
from tests.privacy.test_runs import train as privately

DATA = {"name": "synthetic", "clients": 2, "examples": 4, "features": 2, "classes": 2, "test": 4}


def train(folder: Path, loss: Any = None, callbacks: Any = (), **options: Any) -> None:
    model = fedray.FederatedModel("logistic", loss_fn=loss)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": folder, "progress": False, "callbacks": callbacks}
    fedray.train(model, DATA, fedray.TrainArgs(rounds=2, tracking=[], **options), **place)


def test_the_keys_of_runs_of_every_end_are_those_that_are_told(tmp_path: Path) -> None:
    privately(tmp_path / "finished", options={"rounds": 1})
    train(tmp_path / "budget", checkpoint_best="test.loss", last_round=1)
    train(tmp_path / "early", callbacks=[lambda record: True])
    with pytest.raises(RunFailed):
        train(tmp_path / "failed", lambda output, y: output.sum() / 0, on_nonfinite="abort")
    found = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/summary.json")}
    statuses = {"finished": "finished", "budget": "budget", "early": "early_stopped", "failed": "failed"}
    assert {name: one["status"] for name, one in found.items()} == statuses
    assert {key for one in found.values() for key in one} == set(KEYS)
