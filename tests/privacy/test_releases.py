"""Releases: what makes a kind, and who takes part in which round."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.privacy.releases import Release, charged


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_the_releases_of_rounds_are_those_of_each_round(turns: int, done: int, rounds: int) -> None:
    first = Release(2.0, 0.5, 1, "fixed", "zero_out", turns).after(done)
    singles = [first.after(i).turn for i in range(rounds)]
    assert {each.turn: each.count for each in first.over(rounds)} == {turn: singles.count(turn) for turn in singles}


@given(st.integers(1, 9), st.integers(0, 40))
def test_what_a_kind_is_written_down_by_is_the_kind(turns: int, done: int) -> None:
    release = Release(2.0, 0.5, 1, "fixed", "zero_out", turns).after(done)
    assert Release(**release.fields) == release  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"turns": 3, "turn": 3}, "turn=3: of 3 turns it is one from 0 to 2"),
        ({"sampling": "fixed"}, "relation=add_or_remove: coins are for one client there or not"),
        ({"relation": "replace_one"}, "sampling=poisson, relation=replace_one"),
        ({"count": -1}, "count=-1: a number of releases is at least 0"),
    ],
)
def test_what_is_out_of_range_is_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Release(2.0, **more)


def normal(x: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2.0 * math.pi))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_two_releases_with_the_same_coins_are_one_with_less_noise(epsilon: float) -> None:
    """By sums over a grid: the delta of the two together, of one of z / sqrt(2), and of two with coins of their own."""
    z, q = 1.0, 0.2
    (once,) = charged([(1, Release(z, q)), (1, Release(z, q))])
    assert (once.rate, once.count) == (q, 1)
    step = 0.02
    x = np.arange(-9.0, 10.0, step)
    gone, there = normal(x, 0.0, z), normal(x, 1.0, z)
    none = np.outer(gone, gone)
    mixed = (1.0 - q) * gone + q * there

    def delta(with_it: np.ndarray, without: np.ndarray, cell: float) -> float:
        return float(np.maximum(with_it - math.exp(epsilon) * without, 0.0).sum() * cell)

    both = delta((1.0 - q) * none + q * np.outer(there, there), none, step**2)
    s = once.noise_multiplier
    one = delta((1.0 - q) * normal(x, 0.0, s) + q * normal(x, 1.0, s), normal(x, 0.0, s), step)
    assert one == pytest.approx(both, abs=1e-4)
    apart = delta(np.outer(mixed, mixed), none, step**2)
    assert (both > apart) == (epsilon > 0.0), "at an epsilon worth the name coins of their own cost less"


def test_a_round_done_again_costs_what_two_do_where_nothing_is_drawn() -> None:
    full = Release(2.0, 1.0, 1, "fixed", "replace_one")
    assert charged([(1, full), (1, full), (2, full)]) == (replace(full, count=3),)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1.0, 2.0, 4.0]), st.sampled_from([0.1, 1.0]))))
def test_what_is_paid_for_is_the_same_in_any_order_of_rounds(entries: list[tuple[int, float, float]]) -> None:
    """Of drawn cohorts each round is one release, of all its multipliers; where nobody is drawn each stands alone."""
    expected: Counter[tuple[float, float]] = Counter((z, q) for _, z, q in entries if q == 1.0)
    for round in {round for round, _, q in entries if q < 1.0}:
        squares = [z**-2 for each, z, q in entries if each == round and q < 1.0]
        expected[round_of(sum(squares) ** -0.5), 0.1] += 1
    for turned in (entries, entries[::-1]):
        paid = charged((round, Release(z, q)) for round, z, q in turned)
        assert Counter({(round_of(each.noise_multiplier), each.rate): each.count for each in paid}) == expected


def round_of(z: float) -> float:
    return round(z, 9)
