"""A key in the wrong section is told its place, among the parts that the config chooses too."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import fedray
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.experiment.elsewhere import all_keys
from tests.cli.command import SMALL


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local": {"lr": 0.1}}, "local.lr: unknown key (did you mean local.optimizer.lr?); allowed: epochs, "),
        ({"evaluate": {"patience": 3}}, "evaluate.patience: unknown key (did you mean stop.patience?); allowed: every"),
        (
            {"model": {"name": "mlp", "batch_size": 3}},
            "model.batch_size: unknown key (did you mean local.batch_size or ",
        ),
        ({"local": {"mu": 1}, "algorithm": "fedprox"}, "local.mu: unknown key (did you mean algorithm.mu?); allowed: "),
        ({"mu": 1, "algorithm": "fedprox"}, "mu: unknown key (did you mean algorithm.mu?); allowed: "),
        ({"local": {"mu": 1}}, "local.mu: unknown key; allowed: epochs, "),
        (
            {"algorithm": {"name": "fedavg", "norm": 1}, "transforms": ["clip"]},
            "algorithm.norm: unknown key (did",
        ),
        (
            {"algorithm": {"name": "fedavg", "epochs": 1}},
            "algorithm.epochs: unknown key (did you mean local.epochs?); ",
        ),
    ],
)
def test_the_place_is_named(changes: dict[str, Any], words: str) -> None:
    content = {**yaml.safe_load(SMALL), **changes}
    with pytest.raises(ConfigError) as raised:
        Config.bind("small", content, content)
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong", [{"local": 3}, {"algorithm": [1]}, {"transforms": "clip"}, {"model": {"name": 3}}, {"server": {"lr": {}}}]
)
def test_the_keys_of_a_config_with_mistakes_are_told_all_the_same(wrong: dict[str, Any]) -> None:
    assert {"local.epochs", "rounds"} <= set(all_keys(wrong))


def test_parts_made_in_python_have_places_too() -> None:
    keys = set(all_keys({"algorithm": fedray.FedProx(mu=0.1), "server": {"momentum": 0.9}, "metrics": ["f1"]}))
    assert {"algorithm.mu", "server.lr", "metrics[0].average", "model.frozen", "privacy.noise_multiplier"} <= keys
    assert "local.optimizer.betas" not in keys
