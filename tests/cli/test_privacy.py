"""``fedray privacy`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.privacy.accounting import noise_multiplier, spent
from fedray.privacy.ledger import Ledger
from fedray.privacy.releases import Release
from fedray.rundir.names import LEDGER
from tests.cli.command import Cli


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ledger = Ledger.begin(tmp_path / LEDGER)
    for round in range(1, 4):
        ledger.write(round, f"{round}", Release(6.0, 1.0))
    ledger.write(3, "again", Release(8.0, 1.0))
    return tmp_path


def test_the_ledger_of_a_run_is_a_line_for_each_kind_of_release(cli: Cli, run: Path) -> None:
    outcome = cli("privacy", run)
    assert (outcome.status, outcome.err) == (0, "")
    assert [line.split()[1:] for line in outcome.out.splitlines() if "│" in line] == [
        ["1", "to", "3", "│", "3", "│", "6", "│", "1", "│"],
        ["3", "to", "3", "│", "1", "│", "8", "│", "1", "│"],
    ]
    assert "of 4 releases in 3 rounds" in outcome.out
    told = json.loads(cli("privacy", run, "--json").out)
    assert told["epsilon"] == spent([Release(6.0, 1.0, 3), Release(8.0)], 1e-5)
    assert [one["round"] for one in told["releases"]] == [1, 2, 3, 3]
    other = json.loads(cli("privacy", run, "--delta", "1e-7", "--accountant", "rdp", "--json").out)
    assert other["epsilon"] == spent([Release(6.0, 1.0, 3), Release(8.0)], 1e-7, "rdp")
    assert (
        cli("privacy", run, "--delta", "2").err == "fedray: --delta=2: it must be above 0 and below 1, such as 1e-5\n"
    )


def test_the_noise_for_a_target_and_what_noise_costs(cli: Cli) -> None:
    asked = "--epsilon", "9", "--rounds", "10", "--accountant", "rdp"
    z = noise_multiplier(9.0, 1.0, 10, 1e-5, "rdp")
    assert cli("privacy", *asked).out == f"noise_multiplier {z:g}\n"
    back = "--noise-multiplier", f"{z}", "--rounds", "10", "--accountant", "rdp", "--json"
    assert json.loads(cli("privacy", *back).out)["epsilon"] <= 9.0


def test_an_epsilon_without_end_is_valid_json(cli: Cli) -> None:
    asked = "--noise-multiplier", "0.001", "--rounds", "10", "--accountant", "rdp"
    assert json.loads(cli("privacy", *asked, "--json").out) == {"epsilon": None}
    assert cli("privacy", *asked).out == "epsilon inf\n"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ((), "give a run folder; or --rounds with one of --epsilon and --noise-multiplier"),
        (("--epsilon", "1"), "give a run folder"),
        (("--epsilon", "1", "--noise-multiplier", "1", "--rounds", "3"), "give a run folder"),
        (("--epsilon", "-1", "--rounds", "3"), "--epsilon=-1: it must be above 0"),
        (("--noise-multiplier", "1", "--rounds", "3", "--rate", "2"), "--rate=2: the sampling rate must be"),
        (("nothing",), "there is no privacy.jsonl, so it is no run with a section privacy"),
        (("nothing", "--rounds", "3"), "a ledger says what was spent"),
        (("nothing", "--rate", "0.5"), "a ledger says what was spent"),
    ],
)
def test_what_cannot_be_answered_is_one_line(cli: Cli, asked: tuple[str, ...], words: str) -> None:
    outcome = cli("privacy", *asked)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert words in outcome.err
