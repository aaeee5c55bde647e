"""The claim of a run, as a reviewer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedray.privacy.accounting import spent
from fedray.privacy.ledger import Circumstances, Correlated, Entry, Ledger
from fedray.privacy.releases import Release
from fedray.privacy.section import Privacy
from fedray.privacy.statement import statement


def made(*entries: Entry) -> Ledger:
    return Ledger(Path("none"), "a", entries)


def claim(rate: float = 1.0, **options: Any) -> dict[str, Any]:
    section = Privacy(noise_multiplier=6.0, accountant="rdp", **options)
    rounds = enumerate((1, 2, 2, 3))
    told = Circumstances(50.0, section.norm, 0.12)
    return statement(section, made(*(Entry(round, f"{i}", Release(6.0, rate), told) for i, round in rounds)))


def test_it_names_unit_sampling_mechanism_and_accountant() -> None:
    said = claim(0.5)
    # Of the second round there are two, of one cohort.
    wanted = spent([Release(6.0, 0.5, 2), Release(18.0**0.5, 0.5)], 1e-5, "rdp")
    assert said["epsilon"] == pytest.approx(wanted, rel=1e-9)
    assert said["sampling"].startswith("Poisson: each client takes part in a round with probability 0.5")
    assert "multiplier 6 on the sum" in said["mechanism"]
    assert "divided by 50 clients whoever comes" in said["mechanism"]
    assert said["releases"] == "4 releases in 3 rounds"
    assert said["accountant"].startswith("rdp, dp-accounting ")
    assert said["not_covered"]


def test_full_participation_gains_nothing_by_sampling() -> None:
    assert "nothing is gained by sampling" in claim()["sampling"]


@pytest.mark.parametrize(("noise", "words"), [("secure", 0), ("seeded", 1)])
def test_noise_that_anybody_can_draw_again_is_no_claim(noise: str, words: int) -> None:
    assert claim(noise=noise)["claim"].count("NOT PRIVATE") == words


def test_an_adaptive_clip_is_said() -> None:
    assert "a noised quantile of the norms, first 2" in claim(clip="adaptive", norm=2.0)["mechanism"]


def test_noise_that_is_hardly_any_is_no_claim() -> None:
    section = Privacy(noise_multiplier=1e-3, accountant="rdp")
    said = statement(section, made(Entry(1, "a", Release(1e-3))))
    assert (said["claim"], said["epsilon"]) == ("none: the noise is so small that epsilon is above 10,000", None)


def test_a_run_that_went_on_with_another_config_claims_what_its_ledger_has() -> None:
    told = Circumstances(50.0, 1.0, 0.12)
    entries = (
        Entry(1, "a", Release(6.0, 0.5), told),
        Entry(2, "b", Release(7.0, 1.0), Circumstances(99.0, 2.0, 1.0)),
    )
    said = statement(Privacy(noise_multiplier=7.0, norm=2.0, accountant="rdp"), made(*entries))
    assert "multiplier 6 to 7 on" in said["mechanism"]
    assert "clipped to 1 to 2 in" in said["mechanism"]
    assert "divided by 50 to 99 clients" in said["mechanism"]
    assert said["sampling"].startswith("Poisson: each")
    assert said["sampling"].endswith("nothing is gained by sampling")


def test_a_ledger_of_an_earlier_fedray_is_claimed_by_what_it_has() -> None:
    said = statement(Privacy(noise_multiplier=6.0, accountant="rdp"), made(Entry(1, "a", Release(6.0))))
    assert said["mechanism"].endswith("so that one client changes it by 1 times that at most")


def test_of_correlated_noise_the_ledger_alone_says_turns_and_matrix() -> None:
    section = Privacy(noise_multiplier=6.0, accountant="rdp", mechanism="tree")
    tree = Release(6.0, sampling="fixed", relation="replace_one", mechanism="tree", planned=10, single=8.0)
    before = Entry(1, "a", tree, Circumstances(3.0, 1.0, 0.12))  # as an earlier fedray wrote it
    said = statement(section, made(before))
    assert said["sampling"] == "as the sampler of the config draws: one release counts all rounds of a client"
    assert said["mechanism"].endswith("; noise correlated between 10 rounds: tree")
    said = statement(section, made(before, Entry(2, "b", tree, Circumstances(3.0, 1.0, 0.12, Correlated(5, 0.75, 4)))))
    assert said["sampling"].startswith("clients take turns in 5 groups of a fixed order")
    assert said["sampling"].endswith(
        "3 of a group are drawn, uniformly without replacement; counted as though all took part"
    )
    assert "binary trees of 4 rounds" in said["mechanism"]
    assert said["mechanism"].count("correlated") == 1


def test_before_the_first_release_nothing_is_spent() -> None:
    said = statement(Privacy(noise_multiplier=6.0), made())
    assert (said["epsilon"], said["mechanism"], said["releases"]) == (
        0.0,
        "nothing was released so far",
        "0 releases in 0 rounds",
    )
