"""``fedray plan`` on privacy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedray.experiment.estimate.spending import privacy_rows
from fedray.privacy.accounting import epsilon, noise_multiplier
from fedray.privacy.central import Central
from fedray.privacy.correlated import Banded
from fedray.privacy.local import Randomizer
from fedray.privacy.participation import Participation
from fedray.privacy.randomized import Local
from fedray.privacy.section import Privacy
from fedray.sampling import Full


def plan(*transforms: Any) -> Any:
    parts, task = SimpleNamespace(transforms=transforms), SimpleNamespace(private=None)
    return SimpleNamespace(algorithm=parts, rounds=10, task=task, privacy=None)


def test_it_says_what_is_spent_and_what_would_spend_less() -> None:
    section = Privacy(noise_multiplier=6.0, accountant="rdp")
    rows = dict(privacy_rows(plan(Central(section, 6.0, Participation(expected=50.0)))))
    assert rows["noise"] == "multiplier 6; 0.12 on each entry of the mean, of 50 expected clients"
    assert rows["epsilon"].startswith(f"{epsilon(6.0, 1.0, 10, 1e-5, 'rdp'):.4g} at delta 1e-05 after 10 rounds")
    assert f"{noise_multiplier(8.0, 1.0, 10, 1e-5, 'rdp'):.3g} for 8" in rows["to meet"]


@pytest.mark.slow
def test_it_says_how_many_rounds_and_which_rate_meet_an_epsilon() -> None:
    section = Privacy(noise_multiplier=1.0, accountant="rdp")
    told = [row for _, row in privacy_rows(plan(Central(section, 1.0, Participation(rate=0.1, expected=50.0))))]
    rounds, rate = (next(row for row in told if words in row) for words in ("these cohorts, rounds", "a sampling rate"))
    most = int(rounds.split(" for 3,")[0].split()[-1].replace(",", ""))
    assert epsilon(1.0, 0.1, most, 1e-5, "rdp") <= 3.0 < epsilon(1.0, 0.1, most + 1, 1e-5, "rdp")
    highest = float(rate.split(" for 3,")[0].split()[-1])
    assert epsilon(1.0, highest, 10, 1e-5, "rdp") <= 3.0 < epsilon(1.0, highest * 1.02, 10, 1e-5, "rdp")


def test_of_correlated_noise_it_says_that_all_rounds_are_one_release_and_what_that_gains() -> None:
    section = Privacy(noise_multiplier=6.0, accountant="rdp", mechanism="banded", bands=2)
    cohorts = Participation("fixed", 1.0, "replace_one", turns=2, expected=10.0, clients=20)
    rows = list(privacy_rows(plan(Central(section, 6.0, cohorts, Banded(10, (1.0, 0.5))))))
    said = dict(rows)
    assert said["epsilon"].startswith(f"{epsilon(6.0, 1.0, 1, 1e-5, 'rdp'):.4g} at delta 1e-05 for all rounds")
    assert "one release counts them all" in said["sampling"]
    # Five turns of a client: the sums have 6 * 2 * 1 / 10 times sqrt(5) times the square root of ten rounds.
    assert any("drawn anew in each, at the same epsilon, 8.49" in row for _, row in rows)
    assert any("noise correlated between rounds" in row for _, row in rows)


def test_where_clients_add_the_noise_it_says_what_the_one_pays_that_is_drawn_most_often() -> None:
    section, one = Privacy(model="local", noise_multiplier=6.0), Randomizer("gaussian", 6.0)
    rows = dict(privacy_rows(plan(Local(section, one, ("delta",), Full(), np.ones(4, dtype=np.int64), rounds=10))))
    assert rows["sampling"].endswith("takes part 10 times")
    assert rows["noise"].endswith("12 on each value of an update, 6 on the mean of 4 clients")
    assert f"{one.spent(1):.4g} after 1 time, {one.spent(5):.4g} after 5 times, {one.spent(10):.4g}" in rows["epsilon"]
    needed = Randomizer.calibrated("gaussian", 8.0, participations=10).multiplier
    assert f"{needed:.3g} for 8" in rows["to meet"]


def test_there_is_nothing_to_say_without_privacy() -> None:
    assert list(privacy_rows(plan())) == []
