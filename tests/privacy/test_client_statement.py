"""What is claimed of a run in which clients add noise themselves."""

from __future__ import annotations

from pathlib import Path

from fedray.privacy.client_ledger import ClientLedger, Line
from fedray.privacy.client_statement import client_epsilons, client_statement
from fedray.privacy.local import Randomizer
from fedray.privacy.section import Privacy


def test_the_claim_is_that_of_who_pays_most(tmp_path: Path) -> None:
    section, one = Privacy(model="local", noise_multiplier=2.0), Randomizer("gaussian", 2.0)
    ledger = ClientLedger.begin(tmp_path / "l")
    assert client_statement(section, ledger)["epsilon"] == 0.0
    for round, names in enumerate(("ab", "bc", "b"), 1):
        ledger.write([Line(round, one.release(), dict.fromkeys(names, str(round)))])
    assert client_epsilons(section, ledger) == {"b": one.spent(3), "a": one.spent(1), "c": one.spent(1)}
    said = client_statement(section, ledger, 9)
    assert said["epsilon"] == one.spent(3)
    assert said["clients"] == {"most": one.spent(3), "median": one.spent(1), "least": one.spent(1)}
    assert said["releases"] == "of 3 clients of 9, in 3 rounds; of a client 1 to 3"
    assert said["claim"].startswith(f"({one.spent(3):.4g}, 1e-05)-local differential privacy")


def test_laplace_noise_is_claimed_at_no_delta_and_seeded_noise_is_none(tmp_path: Path) -> None:
    section = Privacy(model="local", noise_multiplier=2.0, mechanism="laplace", noise="seeded")
    ledger = ClientLedger.begin(tmp_path / "l")
    ledger.write([Line(1, Randomizer("laplace", 2.0).release(), {"a": "1"})])
    said = client_statement(section, ledger)
    assert (said["epsilon"], said["delta"]) == (0.5, 0.0)
    assert "NOT PRIVATE" in said["claim"]
    assert "in the L1 norm" in said["mechanism"]
