"""Who shares masks with whom, and how few of them may be left."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from fedray.transforms.secure.graph import SPARSE_FROM, Degree, Graph, _chances, degree, least_of


@pytest.mark.parametrize(("count", "threshold", "least"), [(10, 0.7, 7), (11, 0.7, 8), (3, 0.1, 2), (100, 0.29, 29)])
def test_least_is_the_share_rounded_up_and_two(count: int, threshold: float, least: int) -> None:
    assert least_of(count, threshold) == least


def test_small_cohorts_share_with_all() -> None:
    for count in range(2, SPARSE_FROM):
        assert degree(count, 0.7, 0.2) == Degree(count - 1, least_of(count, 0.7))
    assert degree(SPARSE_FROM, 0.7, 0.2).neighbours < SPARSE_FROM - 1


@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_degree_keeps_its_promises_and_is_the_least_that_does(count: int, threshold: float) -> None:
    found = degree(count, threshold, 0.2)

    def holds(k: int, t: int) -> bool:
        bad = int(0.2 * count) + count - round(threshold * count)
        gaps = count * (count - k - 1) / 2
        # Of the ways to choose the bad ones those that hold two gaps: the quotient of two binomials, factor by factor.
        chance = gaps * np.prod([(bad - i) / (count - i) for i in range(k)]) if k <= bad else 0.0
        reached = hypergeom.sf(t - 1, count, int(0.2 * count), k)
        missed = hypergeom.cdf(t - 1, count, round(threshold * count), k)
        return bool(chance <= 2.0**-41 and reached <= 2.0**-41 / count and missed <= 2.0**-20 / count)

    assert holds(found.neighbours, found.shares)
    assert not holds(found.neighbours, found.shares - 1)
    fewer = found.neighbours - 2
    assert not any(holds(fewer, t) for t in range(2, fewer + 1))


def test_chances_are_those_of_scipy() -> None:
    found = np.arange(41)
    for marked in (0, 5, 30, 95, 100):
        np.testing.assert_allclose(_chances(found, 100, marked, 40), hypergeom.pmf(found, 100, marked, 40), rtol=1e-9)


def test_graphs_are_regular_symmetric_and_named_by_seed_round_and_cohort() -> None:
    cohort = np.arange(0, 200, 2)
    graph = Graph.of(cohort, seed=1, round=3, degree=Degree(6, 3))
    for client in cohort.tolist():
        near = graph.neighbours(client)
        assert len(near) == 6
        assert client not in near
        assert list(near) == sorted(near)
        assert all(client in graph.neighbours(other) for other in near)
    assert graph.ring == Graph.of(cohort[::-1], 1, 3, Degree(6, 3)).ring
    assert graph.ring != Graph.of(cohort, 1, 4, Degree(6, 3)).ring
    assert graph.ring != Graph.of(cohort, 2, 3, Degree(6, 3)).ring


def test_two_gaps_cut_a_graph_in_two() -> None:
    graph = Graph.of(np.arange(20), seed=1, round=1, degree=Degree(4, 2))
    one_gap = [client for place, client in enumerate(graph.ring) if place not in (3, 4)]
    two_gaps = [client for place, client in enumerate(graph.ring) if place not in (3, 4, 10, 11)]
    assert graph.connects(graph.ring)
    assert graph.connects(one_gap)
    assert not graph.connects(two_gaps)
    assert graph.connects([])
