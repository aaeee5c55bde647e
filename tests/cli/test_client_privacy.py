"""``fedray privacy`` on a run whose clients add noise themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.privacy.client_ledger import ClientLedger, Line
from fedray.privacy.local import Randomizer
from fedray.rundir.names import LEDGER
from tests.cli.command import Cli
from tests.cli.test_privacy import rows

ONE = Randomizer("gaussian", 2.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ledger = ClientLedger.begin(tmp_path / LEDGER)
    for round in range(1, 31):
        ledger.write([Line(round, ONE.release(), {f"c{client}": str(round) for client in range(round)})])
    return tmp_path


def test_the_clients_that_pay_most_are_shown_with_what_each_pays(cli: Cli, run: Path) -> None:
    outcome = cli("privacy", run)
    assert (outcome.status, outcome.err) == (0, "")
    assert rows(outcome.out) == [[f"c{i}", f"{30 - i}", "2", "1", f"{ONE.spent(30 - i):.4g}"] for i in range(20)]
    assert "20 of 30 clients are shown" in outcome.out
    assert len(rows(cli("privacy", run, "--all").out)) == 30
    told = json.loads(cli("privacy", run, "--json", "--delta", "1e-7").out)
    assert told["epsilon"] == ONE.spent(30, 1e-7)
    assert told["clients"]["c29"] == {"epsilon": ONE.spent(1, 1e-7), "releases": 1}


def test_what_has_no_meaning_for_it_is_refused(cli: Cli, run: Path) -> None:
    assert cli("privacy", run, "--accountant", "rdp").err.startswith("fedray: --accountant: what clients release")
    assert cli("privacy", run, "--delta", "2").err.startswith("fedray: --delta=2: it must be above 0")
