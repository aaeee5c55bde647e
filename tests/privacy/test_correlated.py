"""Correlated noise: the matrices, what one client can change, and what the sums of rounds have of it."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.privacy.accounting import spent
from fedray.privacy.correlated import Banded, Correlation, Tree
from fedray.privacy.factorisation import banded
from fedray.privacy.releases import Release

SMALL: list[tuple[Correlation, int]] = [
    (Banded(7, (1.0, 0.6)), 2),
    (Banded(8, (1.0, 0.5, 0.7)), 3),
    (Banded(8, banded(8, 3)), 4),
    (Tree(8, 8), 2),
    (Tree(7, 3), 3),
    (Tree(8, 4), 3),
    (Tree(6, 6), 1),
]
EVERY = pytest.mark.parametrize(("correlation", "turns"), SMALL, ids=repr)


def groups(rounds: int, turns: int) -> list[list[int]]:
    return [list(range(group, rounds, turns)) for group in range(turns)]


@EVERY
def test_the_matrix_is_triangular_with_ones_and_no_entry_below_zero(correlation: Correlation, turns: int) -> None:
    c = correlation.matrix()
    assert np.allclose(np.triu(c, 1), 0.0, atol=1e-12)
    assert np.allclose(np.diag(c), 1.0)
    assert (c > -1e-12).all()


@EVERY
def test_what_a_client_changes_is_what_brute_force_finds(correlation: Correlation, turns: int) -> None:
    """Over all subsets of a group's turns, with either sign: no client changes C x by more."""
    c = correlation.matrix()
    largest, row = 0.0, 0.0
    for group in groups(correlation.rounds, turns):
        for signs in product((-1.0, 0.0, 1.0), repeat=len(group)):
            change = c[:, group] @ np.array(signs)
            largest, row = max(largest, float(np.linalg.norm(change))), max(row, float(np.abs(change).max()))
    assert correlation.sensitivity(turns) == pytest.approx(largest, rel=1e-12)
    assert correlation.single(turns) == pytest.approx(row, rel=1e-12)


@pytest.mark.parametrize("correlation", [one for one, _ in SMALL if isinstance(one, Banded)], ids=repr)
def test_bands_are_as_safe_for_any_rounds_at_the_distance(correlation: Banded) -> None:
    """Of any participations at least b rounds apart, not those of a fixed order alone (2306.08153, theorem 2)."""
    c, b = correlation.matrix(), correlation.bands
    rounds = range(correlation.rounds)
    apart = [
        some
        for count in range(1, correlation.rounds + 1)
        for some in combinations(rounds, count)
        if all(later - earlier >= b for earlier, later in pairwise(some))
    ]
    largest = max(
        float(np.linalg.norm(c[:, some] @ np.array(signs)))
        for some in apart
        for signs in product((-1.0, 1.0), repeat=len(some))
    )
    assert correlation.sensitivity(b) == pytest.approx(largest, rel=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_vectors_in_any_direction_change_no_more(seed: int, turns: int) -> None:
    draws = np.random.default_rng(seed)
    for correlation in (Tree(8, 4), Banded(8, (1.0, 0.5, 0.4, 0.3)[:turns])):
        c = correlation.matrix()
        for group in groups(8, turns):
            vectors = draws.standard_normal((len(group), 3))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            assert np.linalg.norm(c[:, group] @ vectors) <= correlation.sensitivity(turns) * (1 + 1e-12)


@EVERY
def test_deviations_are_the_norms_of_the_rows(correlation: Correlation, turns: int) -> None:
    noise = np.linalg.inv(correlation.matrix())
    sums = np.tril(np.ones_like(noise)) @ noise
    for round in range(1, correlation.rounds + 1):
        assert correlation.deviation(round) == pytest.approx(np.linalg.norm(noise[round - 1]))
        assert correlation.of_sum(round) == pytest.approx(np.linalg.norm(sums[round - 1]))


@EVERY
def test_what_is_kept_is_enough_and_all_of_it_is_used(correlation: Correlation, turns: int) -> None:
    later: set[int] = set()
    for round in range(correlation.rounds, 0, -1):
        # Of what is kept after a round, each vector goes into the noise of some later one.
        assert set(correlation.kept(round)) == {each for each in later if each <= round}
        later |= set(correlation.terms(round))


@pytest.mark.parametrize(("rounds", "turns"), [(64, 16), (60, 12), (200, 20)])
def test_sums_of_rounds_have_less_noise_of_bands_than_of_trees_or_drawn_anew(rounds: int, turns: int) -> None:
    def errors(correlation: Correlation) -> np.ndarray:
        scale = correlation.sensitivity(turns)  # at the same privacy of all rounds together
        return np.array([scale * correlation.of_sum(round) for round in range(1, rounds + 1)])

    best = errors(Banded(rounds, banded(rounds, turns)))
    for other in (errors(Banded(rounds)), errors(Tree(rounds, turns)), errors(Tree(rounds, rounds))):
        assert best.max() < other.max()
        assert np.sqrt(np.mean(best**2)) < np.sqrt(np.mean(other**2))


@pytest.mark.parametrize("steps", [1, 2, 5, 8, 31, 64])
def test_a_tree_costs_what_the_accountant_says_of_trees(steps: int) -> None:
    """One of its trees is an event of dp-accounting's own (appendix D of 2103.00039); three turns compose three."""
    from dp_accounting import NeighboringRelation, SelfComposedDpEvent, SingleEpochTreeAggregationDpEvent
    from dp_accounting.rdp import RdpAccountant

    tree, z = Tree(3 * steps, steps), 9.0
    orders = [*range(2, 64), 80, 96, 128, 192, 256, 512, 1024]
    theirs = RdpAccountant(orders, NeighboringRelation.REPLACE_SPECIAL)
    theirs.compose(SelfComposedDpEvent(SingleEpochTreeAggregationDpEvent(z, steps), 3))
    ours = spent([Release(z / tree.sensitivity(steps), 1.0, 1, "fixed", "zero_out")], 1e-5, "rdp")
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-9)


def test_a_client_that_comes_again_within_the_bands_is_refused() -> None:
    with pytest.raises(ValueError, match="bands=3: a client takes part again after 2 rounds: take at most 2"):
        Banded(9, (1.0, 0.5, 0.2)).sensitivity(2)
