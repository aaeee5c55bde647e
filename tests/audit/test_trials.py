"""Audits of real runs: right noise passes, half of it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.audit.runs import HERE
from fedray.audit.trials import Audit, Found
from fedray.config.layers import load_layers
from fedray.core import noise
from fedray.core.discrete import DiscreteGaussian
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.local import private
from tests.cli.command import SMALL

PRIVATE = (
    SMALL.replace("clients: 8", "clients: 20")
    + """\
sampler: {name: poisson, rate: 1.0}
privacy: {noise_multiplier: 1.0, norm: 0.5}
"""
)


def audit(folder: Path, trials: int, canaries: int, *changes: str) -> Audit:
    (folder / "c.yaml").write_text(PRIVATE)
    words = ["rounds=1", *changes, *HERE]
    return Audit(Config.bind("c", *load_layers(folder / "c.yaml", words)), trials, canaries)


def refuted(audited: Audit) -> bool:
    *_, found = audited
    return any(line.refuted for line in audited.lines(found.guesses, 0.95))


def scale_noise(patch: pytest.MonkeyPatch, by: float) -> None:
    """Scale all draws: those of a server by name, those of clients, and those on the gradients of steps."""
    whole = noise.normal_
    for module in (noise, private):
        patch.setattr(module, "normal_", lambda words, deviation=1.0: whole(words, by * deviation))


def halve_noise(patch: pytest.MonkeyPatch) -> None:
    """Halve all draws."""
    scale_noise(patch, 0.5)


ADAPTIVE = "privacy.clip=adaptive", "privacy.bit_noise=9"
LAYERS = "privacy.per_layer=true", "model.hidden=[8]"
LOCAL = "privacy.model=local", "sampler={name: full}"
ROWS = ("privacy.unit=example",)
ALL_ROWS = (*ROWS, "local.batch_size=12")
SHARED = (
    "privacy.model=distributed",
    "transforms=[{name: secure_sum, threshold: 0.9, bits: 20, range: 1}]",
    "sampler={name: full}",
)
TURNS = "sampler={name: round_robin, clients: 5}"
SETTINGS: list[Any] = [
    pytest.param((), id="poisson"),
    pytest.param(("sampler.rate=0.5", "rounds=4"), id="sampled"),
    pytest.param(("sampler={name: full}",), id="replace_one"),
    pytest.param(("sampler={name: full}", "privacy.relation=zero_out"), id="zero_out"),
    pytest.param(("algorithm.name=scaffold",), id="scaffold"),
    pytest.param((TURNS, "rounds=8"), id="turns"),
    pytest.param((TURNS, "rounds=8", "privacy.mechanism=tree"), id="tree"),
    pytest.param((*ADAPTIVE, "rounds=3"), id="adaptive"),
    pytest.param((*ADAPTIVE, "rounds=3", "sampler={name: full}"), id="adaptive replace_one"),
    pytest.param(LAYERS, id="layers"),
    pytest.param((*LAYERS, *ADAPTIVE, "rounds=3"), id="adaptive layers"),
    pytest.param(LOCAL, id="local"),
    pytest.param((*LOCAL, "rounds=2"), id="local rounds"),
    pytest.param((*LOCAL, "privacy.mechanism=laplace"), id="laplace"),
    pytest.param(ROWS, id="rows"),
    pytest.param((*ALL_ROWS, "rounds=2"), id="all rows"),
]


@pytest.mark.parametrize("changes", [SETTINGS[0]])
@pytest.mark.slow
def test_right_noise_passes_and_half_of_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...]
) -> None:
    seeded = ("privacy.noise=seeded", *changes)  # so that the test has the same draws each time
    assert not refuted(audit(tmp_path, 20, 20, *seeded))
    halve_noise(monkeypatch)
    assert refuted(audit(tmp_path, 20, 20, *seeded))


@pytest.mark.slow
@pytest.mark.parametrize("changes", SETTINGS[1:])
def test_the_same_with_other_cohorts_and_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...]
) -> None:
    seeded = ("privacy.noise=seeded", *changes)
    assert not refuted(audit(tmp_path, 60, 20, *seeded))
    halve_noise(monkeypatch)
    assert refuted(audit(tmp_path, 60, 20, *seeded))


@pytest.mark.slow
def test_one_canary_by_repeated_runs_finds_half_the_noise_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not refuted(audit(tmp_path, 400, 1, "privacy.noise=seeded"))
    halve_noise(monkeypatch)
    assert refuted(audit(tmp_path, 400, 1, "privacy.noise=seeded"))


@pytest.mark.parametrize(
    "changes",
    [(), ADAPTIVE, (*LAYERS, *ADAPTIVE), LOCAL, (*LOCAL, "privacy.mechanism=laplace"), ALL_ROWS, SHARED],
)
def test_scores_tell_the_canaries_that_were_in_where_there_is_hardly_any_noise(
    tmp_path: Path, changes: tuple[str, ...]
) -> None:
    audited = audit(tmp_path, 2, 5, "privacy.noise_multiplier=0.05", "rounds=2", *changes)
    *_, found = audited
    assert isinstance(found, Found)
    np.testing.assert_array_equal(found.scores > 0, found.there)
    assert found.there.sum() == 5


@pytest.mark.parametrize(
    "mechanism", ["tree", *(pytest.param(one, marks=pytest.mark.slow) for one in ("gaussian", "banded"))]
)
def test_who_takes_turns_is_scored_by_the_noise_of_its_own_rounds(tmp_path: Path, mechanism: str) -> None:
    audited = audit(tmp_path, 10, 20, TURNS, "rounds=8", f"privacy.mechanism={mechanism}", "privacy.noise=seeded")
    *_, found = audited
    away, there = -found.scores[~found.there], found.scores[found.there]
    both = np.concatenate([away, there])
    # A score is normal, of a mean of half its variance, which is the mean of (|C x| / sensitivity)^2 / z^2.
    wanted = {"gaussian": 2.0, "tree": 0.64, "banded": 0.94}[mechanism]
    assert abs(2.0 * both.mean() / wanted - 1.0) < 0.25
    assert abs(both.var() / wanted - 1.0) < 0.25


def test_a_fifth_of_the_noise_that_clients_share_is_refuted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = (*SHARED, "privacy.noise=seeded")
    assert not refuted(audit(tmp_path, 5, 20, *seeded))
    whole = DiscreteGaussian.draw
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda self, words, count: whole(self, words, count) // 5)
    assert refuted(audit(tmp_path, 5, 20, *seeded))


def test_a_mean_of_one_canary_is_one_and_its_deviation_the_multiplier(tmp_path: Path) -> None:
    audited = audit(tmp_path, 30, 20, "privacy.noise=seeded")
    *_, found = audited
    # log ratio at rate 1: (x - 1/2) / z^2, with x normal around 0 or 1.
    away, there = found.scores[~found.there] + 0.5, found.scores[found.there] + 0.5
    assert abs(away.mean()) < 0.2
    assert abs(there.mean() - 1.0) < 0.2
    assert abs(np.concatenate([away, there - 1.0]).std() - 1.0) < 0.1


@pytest.mark.parametrize(
    ("changes", "trials", "canaries", "words"),
    [
        (("privacy=null",), 2, 1, "privacy: there is none"),
        (ROWS, 2, 21, "--canaries=21.*20 clients with rows"),
        (LAYERS, 2, 28, "--canaries=28.*27 shared parameters of the smallest layer"),
        ((*LOCAL, "transforms=[{name: secure_sum}]"), 2, 1, "secure_sum hides what each client sends"),
        ((), 1, 1, "--trials=1"),
        ((), 2, 21, "--canaries=21"),
    ],
)
def test_what_cannot_be_audited_is_said(
    tmp_path: Path, changes: tuple[str, ...], trials: int, canaries: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        audit(tmp_path, trials, canaries, *changes)


def test_updates_of_fragments_are_not_audited(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^algorithm: clients of streaming_diloco send a fragment of the model"):
        audit(tmp_path, 2, 1, "algorithm={name: streaming_diloco, keep: false}")
