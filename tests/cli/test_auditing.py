"""``fedray audit`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.audit import trials
from fedray.audit.runs import run
from fedray.core.noise import Normals
from tests.audit.test_trials import PRIVATE
from tests.cli.command import Cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(PRIVATE)
    return path


def test_it_prints_bounds_beside_claims(cli: Cli, config: Path) -> None:
    asked = "audit", config, "privacy.noise=seeded", "--trials", "2", "--canaries", "20", "--rounds", "1"
    outcome = cli(*asked)
    assert (outcome.status, outcome.err) == (0, "")
    assert "2 runs of 1 round, canaries in each: 20" in outcome.out
    assert "not refuted" in outcome.out
    told = json.loads(cli(*asked, "--json").out)
    assert told["there"] == told["away"] == 20
    assert [line["delta"] for line in told["lines"]] == [1e-5, 0.01, 0.03, 0.1, 0.2, 0.3]
    assert told["lines"][0]["claimed"] == pytest.approx(4.377, abs=1e-3)
    assert not told["refuted"]
    assert not told["stopped"]


def test_its_status_says_that_a_claim_is_refuted(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Normals, "draw", lambda self, name, count: np.zeros(count))
    outcome = cli("audit", config, "--trials", "2", "--canaries", "20", "--rounds", "1")
    assert outcome.status == 1
    assert "refuted: more is released than is accounted for" in outcome.out


def test_ctrl_c_tells_what_the_trials_so_far_have_shown(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = iter(range(3))

    def stops(*args: Any, **options: Any) -> None:
        if next(runs) == 2:
            raise KeyboardInterrupt
        run(*args, **options)

    monkeypatch.setattr(trials, "run", stops)
    outcome = cli("audit", config, "--trials", "9", "--rounds", "1")
    assert outcome.status == 130
    assert "2 runs of 1 round, canaries in each: 1, of 9: stopped" in outcome.out


def test_bad_options_are_refused_in_one_line(cli: Cli, config: Path) -> None:
    cli("audit", config, "--confidence", "1").refused("--confidence=1: it must be above 0 and below 1")
    cli("audit", config, "privacy=null").refused("privacy: there is none, so nothing is claimed")
