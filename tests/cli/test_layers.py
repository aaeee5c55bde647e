"""Layers of a config: defaults, base files, the file, the command line; values from the environment stay references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.cli.command import Cli, hashes


def resolved(cli: Cli, *arguments: object) -> dict[str, Any]:
    outcome = cli("config", *arguments)
    assert outcome.status == 0, outcome.err
    shown = OmegaConf.to_container(OmegaConf.create(outcome.out), resolve=False)
    assert isinstance(shown, dict)
    return {str(key): value for key, value in shown.items()}


def test_later_layers_win_key_by_key(cli: Cli, small: Path) -> None:
    folder = small.parent / "deep"
    folder.mkdir()
    (folder / "first.yaml").write_text("base: ../small.yaml\nseed: 4\nlocal: {epochs: 2}\n")
    (folder / "second.yaml").write_text("seed: 5\nevaluate: {every: 7}\n")
    (folder / "top.yaml").write_text("base: [first.yaml, second.yaml]\nlocal: {batch_size: 6}\n")
    shown = resolved(cli, "deep/top.yaml", "local.optimizer.lr=0.25")
    assert shown["seed"] == 5
    assert shown["evaluate"]["every"] == 7
    assert shown["rounds"] == 3
    local = shown["local"]
    assert (local["epochs"], local["batch_size"], local["optimizer"]["momentum"]) == (2, 6, 0.5)
    assert local["optimizer"]["lr"] == 0.25


def test_another_part_does_not_inherit_options(cli: Cli, small: Path) -> None:
    shown = resolved(cli, small, "local.optimizer={name: adam}", "data={name: digits}")
    assert shown["local"]["optimizer"] == {
        "name": "adam",
        "lr": 0.001,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.0,
    }
    assert "heterogeneity" not in shown["data"]


def test_options_reach_a_part_that_is_the_default(cli: Cli, small: Path) -> None:
    shown = resolved(cli, small, "algorithm.server_lr=0.5", "data=digits")
    assert shown["algorithm"] == {"name": "fedavg", "weight": "auto", "server_lr": 0.5}
    assert shown["data"]["name"] == "digits"


def test_values_from_the_environment_stay_references(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write_text(small.read_text() + "run: {dir: '${oc.env:FEDRAY_TEST_OUT}'}\n")
    monkeypatch.setenv("FEDRAY_TEST_OUT", "secret-place")
    assert resolved(cli, small)["run"]["dir"] == "${oc.env:FEDRAY_TEST_OUT}"
    assert cli("run", small, "-q").status == 0
    text = Path("secret-place/config.yaml").read_text()
    assert "${oc.env:FEDRAY_TEST_OUT}" in text
    assert "secret-place" not in text
    assert cli("resume", "secret-place", "rounds=4", "-q").status == 0
    assert "secret-place" not in Path("secret-place/config.yaml").read_text()
    monkeypatch.delenv("FEDRAY_TEST_OUT")
    cli("evaluate", "secret-place").refused("run.dir", "FEDRAY_TEST_OUT")


def test_a_users_model_is_found_in_the_working_directory(cli: Cli, small: Path) -> None:
    package = small.parent / f"own_{small.parent.name}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "def make(spec, width=3):\n"
        "    return nn.Sequential(nn.Linear(spec.shape[0], width), nn.Tanh(), nn.Linear(width, spec.outputs))\n"
    )
    chosen = f"model={{name: '{package.name}.nets:make', width: 4}}"
    assert resolved(cli, small, chosen)["model"] == {"name": f"{package.name}.nets:make", "width": 4}
    assert cli("run", small, "run.dir=out", chosen, "-q").status == 0
    assert cli("run", small, "run.dir=again", chosen, "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("again"))
    assert "43 trained" in cli("plan", small, chosen).out
