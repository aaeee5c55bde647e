"""An attack in a config and in Python: the same run, or words about why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import fedray
from fedray.core.errors import ConfigError


def train(folder: Path, **parts: object) -> fedray.Result:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((60, 4)).astype("f4")
    data = fedray.FederatedData.from_arrays(x, (x[:, 0] > 0).astype("i8"), np.repeat(np.arange(10), 6))
    model = fedray.FederatedModel(lambda: nn.Linear(4, 2))
    args = fedray.TrainArgs(rounds=2, tracking=[])
    return fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False, **parts)  # type: ignore[arg-type]


def test_it_is_named_or_made(tmp_path: Path) -> None:
    made = train(tmp_path / "a", aggregator=fedray.Median(), attack=fedray.ALIE(clients=0.3, z=1.0))
    named = train(tmp_path / "b", aggregator="median", attack={"name": "alie", "clients": 0.3, "z": 1.0})
    assert [r.model_sha256 for r in made.history] == [r.model_sha256 for r in named.history]
    assert [len(record.attackers) for record in made.history] == [3, 3]
    text = (tmp_path / "a" / "config.yaml").read_text()
    assert "attack:\n  name: alie\n  clients: 0.3\n  z: 1.0\n" in text
    assert json.loads((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[0])["attackers"]
    plain = train(tmp_path / "c", aggregator="median")
    assert plain.history[0].model_sha256 != made.history[0].model_sha256
    assert "\nattack:" not in (tmp_path / "c" / "config.yaml").read_text()


def test_one_that_sees_all_needs_an_aggregator_that_does(tmp_path: Path) -> None:
    words = r"^attack: attackers of alie look at all updates .* with the aggregator mean nobody sees single ones; take"
    with pytest.raises(ConfigError, match=words):
        train(tmp_path / "run", attack="alie")
    assert not (tmp_path / "run").exists()


def test_what_is_no_attack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^attack: expected an attack, such as fedray\.SignFlip\(clients=0\.2\)"):
        train(tmp_path, attack=fedray.Median())
    with pytest.raises(ConfigError, match=r"^attack\.name: unknown attack 'sign_flop' \(did you mean 'sign_flip'\?\)"):
        train(tmp_path, attack="sign_flop")
