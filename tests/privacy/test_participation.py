"""What cohorts that are not drawn by coins cost, and what one client can change of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray import Full, Poisson, Privacy, RoundRobin, Separated, Uniform, Weighted
from fedray.core.layout import Layout
from fedray.privacy.accounting import epsilon, noise_multiplier, releases_within, spent
from fedray.privacy.central import BELOW, Central
from fedray.privacy.participation import Participation
from fedray.privacy.releases import Release
from fedray.sampling import Sampler
from fedray.transforms import Setting
from tests.privacy.test_accounting import exact
from tests.privacy.test_central import clipped, drawn, released, rows

SIZES = np.ones(20, dtype=np.int64)
DELTA = 1e-5
LAYOUT = Layout.of(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)))


def central(sampler: Sampler, rounds: int = 10, **said: Any) -> Central:
    sends = {"delta": LAYOUT.size, "control": 3}
    setting = Setting(sampler=sampler, sizes=SIZES, layout=LAYOUT, sends=sends, rounds=rounds)
    said = {"noise_multiplier": 2.0} | said
    return Central(Privacy(**said)).prepare(setting)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (Full(), Participation("fixed", 1.0, "replace_one", 1, 20.0, 20)),
        (Uniform(4), Participation("fixed", 0.2, "replace_one", 1, 4.0, 20)),
        (RoundRobin(6), Participation("fixed", 1.0, "replace_one", 4, 5.0, 20)),
        (Separated(2, 3), Participation("fixed", 2 / 6, "replace_one", 3, 2.0, 20)),
        (Poisson(0.1), Participation("poisson", 0.1, "add_or_remove", 1, 2.0, 20)),
    ],
    ids=repr,
)
def test_each_sampler_is_counted_as_what_it_is(sampler: Sampler, expected: Participation) -> None:
    assert Participation.of(sampler, SIZES) == expected


@pytest.mark.parametrize(
    ("sampler", "relation", "words"),
    [
        (Weighted(3), None, "sampler: what privacy costs is not known where .* take {name: poisson, rate: 0.15}"),
        (Uniform(3), "add_or_remove", "relation=add_or_remove: where cohorts have a fixed size"),
        (Poisson(0.1), "replace_one", "relation=replace_one: with a coin for each client"),
    ],
)
def test_what_is_not_known_is_refused(sampler: Sampler, relation: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Participation.of(sampler, SIZES, relation)


@settings(max_examples=60, deadline=None)
@given(rows, rows, st.sampled_from([0.1, 1.0, 30.0]), st.integers(0, 11), st.booleans(), st.booleans())
def test_another_client_in_the_place_of_one_changes_the_mean_by_twice_the_norm_over_the_cohort_at_most(
    case: tuple[int, int, list[float]],
    other: tuple[int, int, list[float]],
    norm: float,
    who: int,
    per_layer: bool,
    adaptive: bool,
) -> None:
    clip: dict[str, Any] = {"clip": "adaptive", "bit_noise": 50.0} if adaptive else {}
    mechanism = central(Uniform(4), norm=norm, per_layer=per_layer, **clip)
    sent = clipped(mechanism, drawn(case), mechanism._first)
    instead = clipped(mechanism, drawn(other), mechanism._first)
    count = len(sent["delta"])
    swapped = {name: part.clone() for name, part in sent.items()}
    for name, part in instead.items():
        swapped[name][who % count] = part[who % len(part)]
    one, two = (released(mechanism, parts) for parts in (sent, swapped))
    apart = {name: one[name] - two[name] for name in one}
    change = math.sqrt(sum(float(apart[name] @ apart[name]) for name in ("delta", "control")))
    slack = 1 + 1e-6 * (count + 1)
    assert change <= mechanism.cohorts.factor * norm / mechanism.expected * slack
    if adaptive:
        assert np.abs(apart[BELOW]).max() <= mechanism.cohorts.factor * 0.5 / mechanism.expected * slack


def test_the_noise_is_over_what_one_client_can_change() -> None:
    twice, once = central(Uniform(4), norm=3.0), central(Uniform(4), norm=3.0, relation="zero_out")
    assert (twice.cohorts.factor, once.cohorts.factor) == (2.0, 1.0)
    with_bits = central(Uniform(4), clip="adaptive", bit_noise=6.0)
    # Two Gaussian releases compose to one of z^-2 = z_1^-2 + z_2^-2; another bit in its place changes by 1.
    assert with_bits.of_update**-2 + 6.0**-2 == pytest.approx(2.0**-2)


@pytest.mark.parametrize("relation", ["zero_out", "replace_one"])
def test_a_client_that_sends_zeros_has_a_bit_as_well(relation: str) -> None:
    mechanism = central(Uniform(4), norm=3.0, relation=relation, clip="adaptive", bit_noise=6.0)
    parts = {"delta": torch.tensor([[9.0], [0.0]]).repeat(1, LAYOUT.size), "control": torch.zeros(2, 3)}
    sent = clipped(mechanism, parts, mechanism._first)
    assert abs(float(sent[BELOW][0] - sent[BELOW][1])) == mechanism.cohorts.bit
    assert mechanism.of_update**-2 + 6.0**-2 == pytest.approx(2.0**-2)


@pytest.mark.parametrize("delta", [1e-5, 1e-7])
@pytest.mark.parametrize(("turns", "rounds"), [(1, 9), (4, 33), (4, 36)])
def test_who_take_turns_pay_for_their_own_rounds_alone(turns: int, rounds: int, delta: float) -> None:
    """Of 33 rounds the first group has nine: the closed form of a Gaussian mechanism composed nine times."""
    found = epsilon(8.0, 1.0, rounds, delta, sampling="fixed", turns=turns)
    assert exact(8.0, 9, delta) - 1e-9 <= found <= exact(8.0, 9, delta) * (1 + 1e-3) + 1e-3


def test_a_fixed_cohort_never_costs_what_coins_would() -> None:
    for z, rate, rounds in ((2.0, 0.1, 40), (4.0, 0.5, 20)):
        fixed = epsilon(z, rate, rounds, DELTA, "rdp", sampling="fixed")
        assert epsilon(z, rate, rounds, DELTA, "rdp") < fixed <= epsilon(z, 1.0, rounds, DELTA, "rdp")


def wang(alpha: int, rate: float, z: float) -> float:
    """Theorem 9 of Wang et al. (arXiv:1808.00087) for a Gaussian mechanism, without what Theorem 27 betters."""

    def renyi(order: float) -> float:
        return order / (2 * z * z)

    second = min(4 * math.expm1(renyi(2)), 2 * math.exp(renyi(2)))
    total = 1.0 + rate**2 * math.comb(alpha, 2) * second
    total += sum(rate**j * math.comb(alpha, j) * 2 * math.exp((j - 1) * renyi(j)) for j in range(3, alpha + 1))
    return math.log(total) / (alpha - 1)


@pytest.mark.parametrize(("z", "rate", "rounds"), [(2.0, 0.1, 40), (4.0, 0.5, 20)])
def test_draws_without_replacement_gain_what_renyi_knows_of_them(z: float, rate: float, rounds: int) -> None:
    """No more than the general bound of the paper, and at every order no less than draws by coins, which gain more."""
    orders = range(2, 20)
    general = min(rounds * wang(a, rate, z) + math.log1p(-1 / a) - math.log(DELTA * a) / (a - 1) for a in orders)
    whole = epsilon(z, 1.0, rounds, DELTA, "rdp")
    assert epsilon(z, rate, rounds, DELTA, "rdp", sampling="fixed") <= min(general, whole) * (1 + 1e-9)


def test_by_distributions_of_losses_it_is_the_smaller_of_both_figures() -> None:
    for z, rate, rounds in [(6.0, 0.05, 20)]:
        pld = epsilon(z, rate, rounds, DELTA, sampling="fixed")
        assert pld == min(epsilon(z, rate, rounds, DELTA, "rdp", sampling="fixed"), epsilon(z, 1.0, rounds, DELTA))


@pytest.mark.parametrize(("rate", "turns"), [(1.0, 5), pytest.param(0.1, 1, marks=pytest.mark.slow)])
def test_the_multiplier_for_an_epsilon_stays_within_it(rate: float, turns: int) -> None:
    z = noise_multiplier(3.0, rate, 50, DELTA, "rdp", sampling="fixed", turns=turns)
    kind = {"sampling": "fixed", "turns": turns}
    assert epsilon(z, rate, 50, DELTA, "rdp", **kind) <= 3.0 < epsilon(z * 0.99, rate, 50, DELTA, "rdp", **kind)  # type: ignore[arg-type]


def test_a_round_done_again_costs_those_whose_turn_it_was() -> None:
    mechanism = central(RoundRobin(5))
    rounds = [mechanism.release(round) for round in range(1, 9)]  # two cycles of four groups
    twice = spent([Release(2.0, count=2)], DELTA, "rdp")
    assert spent(rounds, DELTA, "rdp") == twice
    assert spent([*rounds, mechanism.release(7)], DELTA, "rdp") == spent([Release(2.0, count=3)], DELTA, "rdp")
    # Another way to take turns: somebody may pay most in both.
    other = central(RoundRobin(10)).release()
    assert spent([*rounds, other], DELTA, "rdp") == spent([Release(2.0, count=3)], DELTA, "rdp")


def test_a_budget_goes_on_with_the_turns_where_the_run_stands() -> None:
    budget = spent([Release(2.0, count=2)], DELTA, "rdp")
    mechanism = central(RoundRobin(5))
    for done in (0, 3, 7):
        before = [mechanism.release(round) for round in range(1, done + 1)]
        assert releases_within(budget, mechanism.release(done + 1), 100, DELTA, "rdp", before) == 8 - done


def test_who_count_on_different_neighbours_have_no_common_epsilon() -> None:
    with pytest.raises(ValueError, match="count on different neighbours, replace_one and add_or_remove"):
        spent([Release(2.0), Release(2.0, 1.0, 1, "fixed", "replace_one")], DELTA)


@pytest.mark.parametrize(
    ("sampler", "said", "words"),
    [
        (Full(), {}, ["every client in every round: nothing is gained by sampling"]),
        (RoundRobin(5), {}, ["in 4 groups of a fixed order", "in 3 rounds of 10 at most", "over these alone"]),
        (Uniform(5), {}, ["5 of a federation are drawn, uniformly without replacement", "whichever is less"]),
        (Uniform(5), {"accountant": "rdp"}, ["counted by rdp, which knows what such draws gain"]),
        (Separated(2, 4), {"relation": "zero_out"}, ["2 of a group are drawn", "counted as though all took part"]),
    ],
    ids=repr,
)
def test_the_words_say_how_clients_are_drawn_and_counted(sampler: Sampler, said: Any, words: list[str]) -> None:
    mechanism = central(sampler, **said)
    found = mechanism.cohorts.words(10, mechanism.privacy.accountant)
    assert all(word in found for word in words), found
    with_clients = "takes part with zeros" if said.get("relation") else "another one, with other rows"
    assert with_clients in mechanism.cohorts.neighbouring
