"""Correlated noise in a run: its draws from round to round, and the release that all rounds are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fedray import Full, Poisson, Privacy, RoundRobin, Separated, Uniform
from fedray.core.messages import Aggregate
from fedray.core.noise import Noise
from fedray.core.now import Now
from fedray.privacy.accounting import noise_multiplier, spent
from fedray.privacy.central import Central
from fedray.privacy.correlated import Banded, Tree
from fedray.privacy.mechanism import USUAL_BANDS
from fedray.privacy.releases import charged
from fedray.sampling import Sampler
from fedray.transforms import Setting

ROUNDS, WIDTH = 9, 5


def central(sampler: Sampler, clients: int = 60, rounds: int = ROUNDS, **said: Any) -> Central:
    sends = {"delta": WIDTH, "control": 3}
    setting = Setting(sampler=sampler, sizes=np.ones(clients, np.int64), sends=sends, rounds=rounds)
    said = {"noise_multiplier": 2.0} | said
    return Central(Privacy(**said)).prepare(setting)


def noises(mechanism: Central, values: list[float], memory: dict[str, Any], first: int = 1) -> list[np.ndarray]:
    """The noise of rounds whose updates have these values."""
    found = []
    for round, value in enumerate(values, first):
        parts = {"delta": torch.full((WIDTH,), value), "control": torch.zeros(3)}
        count = mechanism.expected
        total = Aggregate(parts, count, int(count))
        noise = Noise(bytes([round] * 32), round, memory=memory)
        mechanism.on_aggregate(total, Now(1, round, mechanism.start(), noise=noise))
        found.append(total.parts["delta"].double().numpy() - value)
    return found


@pytest.mark.parametrize(
    ("sampler", "said", "expected"),
    [
        (Separated(4, 5), {"mechanism": "banded", "bands": 3}, 3),
        (RoundRobin(2), {"mechanism": "banded"}, ROUNDS),
        (RoundRobin(2), {"mechanism": "banded", "bands": 20}, ROUNDS),
        (RoundRobin(20), {"mechanism": "tree"}, Tree(ROUNDS, 3)),
        (Full(), {"mechanism": "tree"}, Tree(ROUNDS, ROUNDS)),
        (Uniform(4), {"mechanism": "tree", "restart": 4}, Tree(ROUNDS, 4)),
        (Separated(4, 5), {}, None),
    ],
)
def test_the_correlation_is_that_of_the_config_and_the_cohorts(sampler: Sampler, said: Any, expected: Any) -> None:
    found = central(sampler, **said).correlation
    assert (found.bands if isinstance(found, Banded) else found) == expected


def test_nobody_keeps_more_bands_than_he_asks_for() -> None:
    found = central(RoundRobin(1), rounds=50, mechanism="banded").correlation
    assert isinstance(found, Banded)
    assert found.bands == USUAL_BANDS


@pytest.mark.parametrize(
    ("sampler", "said", "words"),
    [
        (Poisson(0.1), {"mechanism": "tree"}, "mechanism=tree: correlated noise is for clients that take turns"),
        (Uniform(4), {"mechanism": "banded"}, "mechanism=banded: it needs rounds between"),
        (Separated(4, 5), {"mechanism": "banded", "bands": 6}, "bands=6: .* take at most 5"),
    ],
)
def test_what_it_is_not_made_for_is_refused(sampler: Sampler, said: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        central(sampler, **said)


@pytest.mark.parametrize("said", [{"mechanism": "banded", "bands": 4}, {"mechanism": "tree", "restart": 5}])
def test_the_noise_of_each_round_is_its_row_and_has_the_deviation_that_is_told(said: dict[str, Any]) -> None:
    """C times the noise of all rounds is what was drawn: independent, of one deviation."""
    mechanism = central(Separated(4, 5), clients=60, **said)
    assert mechanism.correlation is not None
    c = mechanism.correlation.matrix()
    memory: dict[str, Any] = {}
    rows = np.stack(noises(mechanism, [0.1 * round for round in range(ROUNDS)], memory))
    assert memory == {}, "after the last round there is nothing to keep"
    scale = 2.0 * 2.0 * mechanism.correlation.sensitivity(5) / 4.0  # z, twice the clip of 1, over four clients
    drawn = c @ rows / scale
    again = noises(mechanism, [0.1 * round for round in range(ROUNDS)], {})
    assert (np.stack(again) == rows).all()
    many = central(Separated(4, 5), **said)
    more = [c @ np.stack(noises(many, [run + round / 10 for round in range(ROUNDS)], {})) / scale for run in range(40)]
    stacked = np.stack([drawn, *more])  # [runs, rounds, width]
    count = stacked.shape[0] * WIDTH
    assert np.abs(stacked.std(axis=(0, 2)) - 1.0).max() < 5 / np.sqrt(2 * count)
    flat = stacked.transpose(1, 0, 2).reshape(ROUNDS, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(ROUNDS)).max() < 5 / np.sqrt(count), "drawn for each round by itself"


def test_the_same_values_after_other_rounds_have_other_noise() -> None:
    """Else the difference of both would tell, without noise, that of the rounds before."""
    mechanism = central(Separated(4, 5), mechanism="banded", bands=3)
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    noises(mechanism, [0.0], one)
    noises(mechanism, [1.0], other)
    same = noises(mechanism, [0.5], one, 2)[0]
    c = mechanism.correlation.coefficients  # type: ignore[union-attr]
    first, second = one["delta@1"], other["delta@1"]
    apart = noises(mechanism, [0.5], other, 2)[0] - same
    scale = mechanism.deviation(2) / mechanism.correlation.deviation(2)  # type: ignore[union-attr]
    assert np.abs(apart + scale * c[1] * (second - first)).max() > 1e-3


def test_a_round_whose_noise_is_forgotten_is_an_error() -> None:
    mechanism = central(Separated(4, 5), mechanism="banded", bands=3)
    with pytest.raises(RuntimeError, match="the noise of round 2 is forgotten, of which that of 3 is made"):
        noises(mechanism, [0.0], {}, 3)


@pytest.mark.parametrize("said", [{"mechanism": "banded", "bands": 4}, {"mechanism": "tree"}])
def test_all_rounds_are_one_release_of_the_multiplier_that_meets_the_target(said: dict[str, Any]) -> None:
    mechanism = central(Separated(4, 5), noise_multiplier=None, epsilon=2.0, accountant="rdp", **said)
    assert mechanism.multiplier == noise_multiplier(2.0, 1.0, 1, 1e-5, "rdp")
    release = mechanism.release(1)
    assert release == mechanism.release(7)
    assert (release.planned, release.count) == (ROUNDS, 1)
    entries = [(round, mechanism.release(round)) for round in range(1, ROUNDS + 1)]
    assert spent(charged(entries), 1e-5, "rdp") == spent([release], 1e-5, "rdp") <= 2.0
    # A round that came out otherwise is a row more: no more than the brute force of the matrix with that row twice.
    again = charged([*entries, (4, release)])
    assert [each.count for each in again] == [1, 1]
    assert mechanism.correlation is not None
    c, one = mechanism.correlation.matrix(), mechanism.correlation.sensitivity(5)
    for row in range(ROUNDS):
        twice = np.vstack([c, c[row]])
        largest = max(np.linalg.norm(twice[:, group::5].sum(axis=1)) for group in range(5))
        together = sum(each.noise_multiplier**-2 for each in again) ** -0.5
        assert together <= mechanism.multiplier * one / largest * (1 + 1e-9)


def test_independent_noise_keeps_nothing_and_its_bits() -> None:
    mechanism = central(Separated(4, 5))
    memory: dict[str, Any] = {}
    noises(mechanism, [0.0, 0.1], memory)
    assert memory == {}
