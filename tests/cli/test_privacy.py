"""``fedray privacy`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.privacy import ledger as ledgers
from fedray.privacy.accounting import noise_multiplier, spent
from fedray.privacy.ledger import Circumstances, Correlated, Cost, Ledger
from fedray.privacy.releases import Release
from fedray.rundir.names import LEDGER
from tests.cli.command import Cli

TOLD = Circumstances(expected=50.0, norm=0.5, noise_std=0.06)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ledger = Ledger.begin(tmp_path / LEDGER)
    for round in range(1, 4):
        ledger.write(round, f"{round}", Cost(Release(6.0, 1.0), TOLD))
    ledger.write(3, "again", Cost(Release(8.0, 1.0), TOLD))
    return tmp_path


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]


def test_the_ledger_of_a_run_is_a_line_for_each_release_with_what_is_spent_so_far(cli: Cli, run: Path) -> None:
    outcome = cli("privacy", run)
    assert (outcome.status, outcome.err) == (0, "")
    spent_by = [[Release(6.0, count=n)] for n in (1, 2, 3)] + [[Release(6.0, count=3), Release(8.0)]]
    so_far = [f"{spent(releases, 1e-5, 'rdp'):.4g}" for releases in spent_by]
    same = ["1", "poisson", "gaussian", "50", "0.5", "0.06"]
    assert rows(outcome.out) == [
        ["1", "6", *same, so_far[0]],
        ["2", "6", *same, so_far[1]],
        ["3", "6", *same, so_far[2]],
        ["3 (2nd release)", "8", *same, so_far[3]],
    ]
    assert "of 4 releases in 3 rounds" in outcome.out
    assert "counted by rdp" in outcome.out
    told = json.loads(cli("privacy", run, "--json").out)
    assert told["epsilon"] == spent([Release(6.0, 1.0, 3), Release(8.0)], 1e-5)
    assert [one["round"] for one in told["releases"]] == [1, 2, 3, 3]
    other = json.loads(cli("privacy", run, "--delta", "1e-7", "--accountant", "rdp", "--json").out)
    assert other["epsilon"] == spent([Release(6.0, 1.0, 3), Release(8.0)], 1e-7, "rdp")
    assert (
        cli("privacy", run, "--delta", "2").err == "fedray: --delta=2: it must be above 0 and below 1, such as 1e-5\n"
    )


def test_of_a_long_ledger_twenty_lines_are_shown_with_all_rounds_that_were_released_again(cli: Cli, run: Path) -> None:
    ledger = Ledger.read(run / LEDGER)
    for round in range(4, 100):
        ledger.write(round, f"{round}", Cost(Release(6.0, 1.0), TOLD))
    out = cli("privacy", run, "--accountant", "rdp").out
    found = [row[0] for row in rows(out)]
    assert (len(found), found[0], found[-1]) == (20, "1", "99")
    assert "3 (2nd release)" in found
    assert "20 of 100 releases are shown" in out
    assert len(rows(cli("privacy", run, "--accountant", "rdp", "--all").out)) == 100


def test_what_counts_as_its_machine_stopped_is_told_and_marked(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "keeping_boot", lambda folder: "before")
    ledger = Ledger.begin(tmp_path / LEDGER)
    ledger.write(1, "a", Cost(Release(6.0, 1.0), TOLD), ahead=2)
    ledger.write(2, "b", Cost(Release(6.0, 1.0), TOLD))
    out = cli("privacy", tmp_path, "--accountant", "rdp").out
    assert [row[0] for row in rows(out)] == ["1", "2", "3 (reserved)"]
    assert f"{spent([Release(6.0, count=3)], 1e-5, 'rdp'):.4g} at delta 1e-05 (rdp), of 3 releases in 3 rounds" in out
    assert "1 of which count as their machine stopped" in " ".join(out.split())
    monkeypatch.setattr(ledgers, "boot_id", lambda: "before")
    assert "of 2 releases in 2 rounds" in cli("privacy", tmp_path, "--accountant", "rdp").out


def test_a_run_that_was_killed_is_claimed_by_its_ledger_and_its_config(cli: Cli, run: Path) -> None:
    (run / "config.yaml").write_text(
        "data: ${oc.env:FEDRAY_NOT_SET}\nprivacy: {noise_multiplier: 6, norm: 0.5, delta: 1e-6, accountant: rdp}\n"
    )
    out = cli("privacy", run).out
    found = spent([Release(6.0, 1.0, 3), Release(8.0)], 1e-6, "rdp")
    assert f"{found:.4g} at delta 1e-06 (rdp), of 4 releases in 3 rounds" in out
    assert "multiplier 6 to 8 on the sum of what clients send, each clipped to 0.5" in out
    assert "counted by rdp" not in out


def test_a_ledger_of_an_earlier_fedray_has_no_circumstances(cli: Cli, tmp_path: Path) -> None:
    line = {"round": 1, "release": "a", "noise_multiplier": 6.0, "rate": 1.0}
    (tmp_path / LEDGER).write_text(json.dumps({"ledger": "a", "format": 1}) + "\n" + json.dumps(line) + "\n")
    ((*known, _),) = rows(cli("privacy", tmp_path).out)
    assert known == ["1", "6", "1", "poisson", "gaussian", "?", "?", "?"]


def test_noise_that_is_correlated_between_rounds_has_its_bands_in_the_table(cli: Cli, tmp_path: Path) -> None:
    ledger = Ledger.begin(tmp_path / LEDGER)
    banded = Release(6.0, sampling="fixed", relation="zero_out", mechanism="banded", planned=4, single=8.0)
    ledger.write(1, "a", Cost(banded, Circumstances(50.0, 0.5, 0.06)))  # as an earlier fedray wrote it
    ledger.write(2, "b", Cost(banded, Circumstances(50.0, 0.5, 0.06, Correlated(turns=3, rate=1.0, reach=3))))
    assert [row[4] for row in rows(cli("privacy", tmp_path).out)] == ["banded", "banded, bands 3"]


def test_noise_that_clients_share_is_named_in_the_table(cli: Cli, tmp_path: Path) -> None:
    discrete = Release(6.0, sampling="fixed", relation="zero_out", mechanism="discrete")
    Ledger.begin(tmp_path / LEDGER).write(1, "a", Cost(discrete, Circumstances(50.0, 0.5, 0.06)))
    assert [row[4] for row in rows(cli("privacy", tmp_path).out)] == ["discrete"]


def test_the_noise_for_a_target_and_what_noise_costs(cli: Cli) -> None:
    asked = "--epsilon", "9", "--rounds", "10", "--accountant", "rdp"
    z = noise_multiplier(9.0, 1.0, 10, 1e-5, "rdp")
    assert cli("privacy", *asked).out == f"noise_multiplier {z:g}\n"
    back = "--noise-multiplier", f"{z}", "--rounds", "10", "--accountant", "rdp", "--json"
    assert json.loads(cli("privacy", *back).out)["epsilon"] <= 9.0


def test_clients_that_take_turns_pay_for_their_own_rounds(cli: Cli) -> None:
    asked = "privacy", "--noise-multiplier", "4", "--rounds", "80"
    assert cli(*asked, "--turns", "20", "--sampling", "fixed").out == "epsilon 1.99309\n"
    assert cli(*asked, "--sampling", "fixed").out != "epsilon 1.99309\n"


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
        (("--all", "--epsilon", "1", "--rounds", "3"), "--all: it is for the ledger of a run folder"),
    ],
)
def test_what_cannot_be_answered_is_one_line(cli: Cli, asked: tuple[str, ...], words: str) -> None:
    outcome = cli("privacy", *asked)
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert words in outcome.err
