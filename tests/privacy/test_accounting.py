"""What releases cost, against the closed form of the Gaussian mechanism and the laws that any accountant obeys."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from fedray.core.errors import ConfigError
from fedray.privacy import accounting
from fedray.privacy.accounting import Accountant, epsilon, noise_multiplier, releases_within, spent
from fedray.privacy.releases import Release

DELTA = 1e-5


def exact(z: float, rounds: int, delta: float) -> float:
    """The epsilon of a Gaussian mechanism composed: one of z / sqrt(rounds) (arXiv:1805.06530, theorem 8)."""
    s = z / math.sqrt(rounds)

    def over(e: float) -> float:
        return float(norm.cdf(0.5 / s - e * s) - math.exp(e) * norm.cdf(-0.5 / s - e * s)) - delta

    return float(brentq(over, 0.0, 200.0, xtol=1e-12))


@pytest.mark.parametrize(
    ("z", "rounds", "delta"),
    [*itertools.product((4.0, 20.0), (1, 10, 100), (1e-5, 1e-7))],
)
@pytest.mark.one_in(4)
def test_at_rate_1_it_is_between_the_closed_form_and_renyi(z: float, rounds: int, delta: float) -> None:
    known, found = exact(z, rounds, delta), epsilon(z, 1.0, rounds, delta)
    assert known - 1e-9 <= found <= known * (1 + 1e-3) + 1e-3
    assert found <= epsilon(z, 1.0, rounds, delta, "rdp") * (1 + 1e-3)


@settings(max_examples=15)
@given(
    z=st.floats(0.7, 5.0),
    rate=st.sampled_from([0.01, 0.1, 0.5]),
    rounds=st.integers(1, 200),
    delta=st.sampled_from([1e-4, 1e-6]),
)
@pytest.mark.slow
def test_more_rounds_higher_rates_less_noise_and_smaller_deltas_cost_more(
    z: float, rate: float, rounds: int, delta: float
) -> None:
    here = epsilon(z, rate, rounds, delta, "rdp")
    for dearer in (
        epsilon(z, rate, 2 * rounds, delta, "rdp"),
        epsilon(z, min(1.0, 2 * rate), rounds, delta, "rdp"),
        epsilon(z / 1.5, rate, rounds, delta, "rdp"),
        epsilon(z, rate, rounds, delta / 10, "rdp"),
    ):
        assert here <= dearer + 1e-9


@pytest.mark.slow
def test_so_it_is_by_distributions_of_losses_which_are_tighter() -> None:
    here = epsilon(1.5, 0.1, 30, DELTA)
    assert here <= epsilon(1.5, 0.1, 30, DELTA, "rdp")
    dearer = [(1.5, 0.1, 60, DELTA), (1.5, 0.2, 30, DELTA), (1.2, 0.1, 30, DELTA), (1.5, 0.1, 30, DELTA / 10)]
    assert all(here < epsilon(*each) for each in dearer)


@pytest.mark.parametrize(
    ("target", "rate", "rounds"),
    [(9.0, 1.0, 10), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(3.0, 0.1, 30), (0.5, 0.01, 50)])],
)
@pytest.mark.slow
def test_the_multiplier_for_an_epsilon_stays_within_it_and_hardly_wastes_any(
    target: float, rate: float, rounds: int
) -> None:
    z = noise_multiplier(target, rate, rounds, DELTA)
    assert epsilon(z, rate, rounds, DELTA) <= target < epsilon(z * 0.99, rate, rounds, DELTA)
    assert z == float(f"{z:.4g}")


@pytest.mark.slow
def test_alike_releases_are_one_whatever_their_order() -> None:
    parts = [Release(1.0, 0.1, 20), Release(2.0, 0.1, 5), Release(1.0, 0.1, 30)]
    assert (
        spent(parts, DELTA) == spent(parts[::-1], DELTA) == spent([Release(2.0, 0.1, 5), Release(1.0, 0.1, 50)], DELTA)
    )


@pytest.mark.parametrize("accountant", ["rdp", pytest.param("pld", marks=pytest.mark.slow)])
@pytest.mark.parametrize("before", [[], [Release(2.0, 0.2, 10)]], ids=["anew", "after others"])
def test_the_releases_that_a_budget_allows_fit_and_one_more_does_not(
    before: list[Release], accountant: Accountant
) -> None:
    one = Release(1.5, 0.1)
    count = releases_within(3.0, one, 1000, DELTA, accountant, before)
    within, beyond = (spent([*before, replace(one, count=some)], DELTA, accountant) for some in (count, count + 1))
    assert within <= 3.0 < beyond
    assert releases_within(3.0, one, count - 1, DELTA, accountant, before) == count - 1


def test_a_budget_that_is_used_up_allows_nothing() -> None:
    assert releases_within(0.1, Release(1.0, 0.5), 10, DELTA, "rdp", [Release(1.0, 0.5, 10)]) == 0


def test_privacy_that_is_none_is_infinite() -> None:
    assert epsilon(0.01, 1.0, 100, DELTA) == math.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: epsilon(0.0, 0.1, 1), "noise_multiplier=0: it must be above 0"),
        (lambda: epsilon(1.0, 1.5, 1), "rate=1.5: the sampling rate must be above 0 and at most 1"),
        (lambda: epsilon(1.0, 0.1, -1), "a number of releases is at least 0"),
        (lambda: epsilon(1.0, 0.1, 1, delta=0.0), "delta=0: it must be above 0 and below 1"),
        (lambda: noise_multiplier(0.0, 0.1, 1), "epsilon=0: it must be above 0"),
        (lambda: noise_multiplier(1.0, 0.1, 0), "rounds=0: there must be at least 1"),
    ],
)
def test_a_number_out_of_range_is_named(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[dp\]'"):
        epsilon(1.0, 0.1, 10)
