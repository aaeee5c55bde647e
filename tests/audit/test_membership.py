"""Membership inference: guesses with a known answer, and real models that leak, and do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from fedray.audit.membership import Membership, Seen, calibrated, likelihood_ratios, logits
from fedray.audit.roc import Roc
from fedray.audit.runs import HERE
from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError
from fedray.core.quiet import quieted
from fedray.experiment.build import Config

OVERFITTED = """\
seed: 1
data: {name: synthetic, clients: 24, examples: 4, features: 20, classes: 5, heterogeneity: 0.0, test: 20}
model: {name: mlp, hidden: [32]}
local: {epochs: 6, batch_size: 4, optimizer: {name: sgd, lr: 0.5}}
rounds: 8
"""
"""Labels that two hundred inputs of twenty features hardly tell, learnt by heart."""


def attacked(folder: Path, models: int, *changes: str, text: str = OVERFITTED) -> Membership:
    (folder / "c.yaml").write_text(text)
    with quieted("fedray"):
        return Membership(Config.bind("c", *load_layers(folder / "c.yaml", [*changes, *HERE])), models)


def areas(asked: Membership) -> dict[tuple[str, str], float]:
    with quieted("fedray"):
        *_, seen = asked
    return {name: Roc(*scores).auc for name, scores in seen.scores().items()}


def test_the_logit_is_that_of_the_probability_of_the_truth() -> None:
    p = np.array([1e-8, 0.3, 0.5, 0.999])
    assert np.allclose(logits(-np.log(p)), np.log(p / (1 - p)))


def test_the_likelihood_ratio_finds_what_a_threshold_for_all_cannot() -> None:
    # Rows differ by 10, and being a member by 2, both in deviations of what chance does.
    draw = np.random.default_rng(3)
    there = draw.random((64, 500)) < 0.5
    confident = 10.0 * draw.standard_normal(500) + 2.0 * there + draw.standard_normal((64, 500))
    known = Roc(likelihood_ratios(confident, there).ravel(), there.ravel())
    assert known.auc == pytest.approx(norm.cdf(2.0 / np.sqrt(2.0)), abs=0.02), "that of who knows all distributions"
    assert Roc(confident.ravel(), there.ravel()).auc < 0.6
    less = Roc(calibrated(confident, there).ravel(), there.ravel()).auc
    # A mean of 32 models is off by itself: the variance of a difference is 1 + 1/32 in the place of 1.
    assert less == pytest.approx(norm.cdf(2.0 / np.sqrt(2.0 * (1 + 1 / 32))), abs=0.02)


def test_a_model_has_no_part_in_the_shadows_of_itself() -> None:
    draw = np.random.default_rng(4)
    there = draw.random((8, 4000)) < 0.5
    confident = draw.standard_normal(there.shape)
    for scores in (likelihood_ratios(confident, there), calibrated(confident, there)):
        assert Roc(scores.ravel(), there.ravel()).auc == pytest.approx(0.5, abs=0.02)


def test_scores_of_clients_are_of_the_mean_of_their_rows() -> None:
    losses = -np.log(np.array([[0.5, 0.5, 0.9], [0.9, 0.9, 0.5]]))
    seen = Seen(losses, np.array([[True, False], [False, True]]), np.array([0, 0, 1]))
    scores, there = seen.scores()["loss threshold", "clients"]
    assert np.allclose(scores, np.log([1.0, 9.0, 9.0, 1.0]))
    assert there.tolist() == [True, False, False, True]


@pytest.mark.slow
def test_an_overfitted_model_leaks_and_one_with_strong_noise_does_not(tmp_path: Path) -> None:
    found = areas(attacked(tmp_path, 6))
    assert found["loss threshold", "rows"] > 0.7
    assert found["calibrated threshold", "clients"] > 0.85
    assert found["likelihood ratio", "clients"] > 0.85
    private = "sampler={name: poisson, rate: 1.0}", "privacy={noise_multiplier: 20, noise: seeded}"
    hidden = areas(attacked(tmp_path, 6, *private))
    # The area of n members and n others is 0.5 with a variance of (2 n + 1) / (12 n^2): within three deviations.
    deviation = np.sqrt(145 / (12 * 72 * 72))
    assert all(abs(area - 0.5) < 3 * deviation for (_, unit), area in hidden.items() if unit == "clients")


def test_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    with quieted("fedray"):
        one, other = ([*attacked(tmp_path, 4, "rounds=1")][-1] for _ in range(2))
    assert (one.losses == other.losses).all()
    assert len({row.tobytes() for row in one.losses}) == 4


@pytest.mark.parametrize(
    ("models", "changes", "words"),
    [
        (3, (), "--models=3: each is attacked by means of the others"),
        (4, ("algorithm.name=local_only",), "the attack is on the server's model"),
        (4, ("sampler={name: uniform, clients: 20}",), "sampler: each model has about half of the clients"),
        (4, ("transforms=[secure_sum]",), "the masks of secure_sum are made for whole cohorts: leave it out"),
    ],
)
def test_what_cannot_be_attacked_is_refused(tmp_path: Path, models: int, changes: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        attacked(tmp_path, models, *changes)
