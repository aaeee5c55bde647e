"""``fedray attack`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import SMALL, Cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(SMALL + "sampler: {name: poisson, rate: 1.0}\nprivacy: {noise_multiplier: 30, noise: seeded}\n")
    return path


def test_membership_is_told_with_and_without_privacy(cli: Cli, config: Path) -> None:
    asked = "attack", "membership", config, "rounds=1", "--without-privacy", "--models", "4"
    told = json.loads(cli(*asked, "--json").out)
    assert [one["variant"] for one in told["attacks"]] == ["with privacy"] * 6 + ["without privacy"] * 6
    assert {one["members"] + one["others"] for one in told["attacks"]} == {4 * 8, 4 * 8 * 12}
    assert told["claims"]["with privacy"]["epsilon"] == pytest.approx(0.11, abs=0.02)


def test_figures_of_a_run_stand_in_a_folder(cli: Cli, config: Path, tmp_path: Path) -> None:
    assert cli("run", config, "rounds=1", f"run.dir={tmp_path / 'run'}").status == 0
    outcome = cli("attack", "inversion", tmp_path / "run", "--steps", "1", "--figures", tmp_path / "figures")
    assert (outcome.status, outcome.err) == (0, "")
    assert "released, 8 clients" in outcome.out
    assert "(0 files)" in outcome.out, "rows of six numbers are no images"


def test_inversion_is_told_of_what_is_released_where_there_is_noise(cli: Cli, config: Path) -> None:
    asked = "attack", "inversion", config, "--without-privacy", "--steps", "2", "--json"
    told = json.loads(cli(*asked).out)
    assert (told["view"], told["round"], len(told["clients"])) == ("released", 1, 8)
    assert [one["variant"] for one in told["attacks"]] == ["with privacy", "without privacy"]
    told = json.loads(cli(*asked, "--view", "update", "--client", "3").out)
    assert (told["view"], told["clients"]) == ("update", ["3"])
    assert len(told["attacks"][0]["psnr"]) == 12
    # Where clients add it, the server is who need not be trusted.
    local = cli(
        "attack", "inversion", config, "privacy.model=local", "privacy.accountant=pld", "--steps", "2", "--json"
    )
    told = json.loads(local.out)
    assert (told["view"], len(told["clients"])) == ("update", 1)


def test_bad_options_are_refused_in_one_line(cli: Cli, config: Path, tmp_path: Path) -> None:
    cli("attack", "membership", config, "--round", "2").refused("--round: it is not for membership")
    cli("attack", "inversion", config, "--models", "4").refused("--models: it is not for inversion")
    cli("attack", "inversion", config, "privacy=null", "--without-privacy").refused("--without-privacy: the config has")
    cli("attack", "inversion", tmp_path).refused("there is no config in it")
