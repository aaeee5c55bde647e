"""The claim of a run, as a reviewer reads it."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.privacy.accounting import spent
from fedray.privacy.central import Central
from fedray.privacy.participation import Participation
from fedray.privacy.releases import Release
from fedray.privacy.section import Privacy
from fedray.privacy.statement import statement


def claim(rate: float = 1.0, **options: Any) -> dict[str, Any]:
    section = Privacy(noise_multiplier=6.0, accountant="rdp", **options)
    cohorts = Participation(rate=rate, expected=50.0)
    return statement(Central(section, 6.0, cohorts), [Release(6.0, rate, 4)], rounds=3)


def test_it_names_unit_sampling_mechanism_and_accountant() -> None:
    said = claim(0.5)
    assert said["epsilon"] == spent([Release(6.0, 0.5, 4)], 1e-5, "rdp")
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
    said = statement(Central(section, 1e-3, Participation(expected=50.0)), [Release(1e-3, 1.0, 4)], rounds=4)
    assert (said["claim"], said["epsilon"]) == ("none: the noise is so small that epsilon is above 10,000", None)
