"""Krum and Multi-Krum against a loop written from the paper, against flwr, and as laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.aggregators import Krum, Mean, MultiKrum
from fedray.aggregators.gathered import Rows
from fedray.aggregators.krum import scores
from fedray.core.now import Now


def rows_of(delta: NDArray[Any], **parts: NDArray[Any]) -> Rows:
    tensors = {name: torch.from_numpy(np.asarray(part, dtype="f4")) for name, part in {"delta": delta, **parts}.items()}
    return Rows(np.arange(len(delta)), np.ones(len(delta)), tensors)


def drawn(count: int, seed: int, width: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width)).astype("f4")


def chosen(rule: Krum, delta: NDArray[Any]) -> list[int]:
    return [int(i) for i in rule.shares(rows_of(delta), Now(1, 1)).nonzero().flatten()]


def by_the_paper(rows: NDArray[Any], f: int, m: int) -> NDArray[np.float64]:
    """The score of i sums over i -> j, the n - f - 2 closest vectors to V_i; the m of the smallest are averaged."""
    n, score = len(rows), []
    for i in range(n):
        distances = sorted(float(np.sum((rows[i].astype("f8") - rows[j]) ** 2)) for j in range(n) if j != i)
        score.append(sum(distances[: n - f - 2]))
    best = sorted(range(n), key=lambda i: (score[i], i))[:m]
    return np.asarray(rows[best].astype("f8").mean(axis=0))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[int, int, int]:
    """n, f and a seed, with 2 f + 2 < n."""
    f = draw(st.integers(0, 4))
    return draw(st.integers(2 * f + 3, 2 * f + 12)), f, draw(st.integers(0, 2**16))


@given(cohorts(), st.integers(1, 30))
def test_they_are_the_papers(cohort: tuple[int, int, int], keep: int) -> None:
    n, f, seed = cohort
    delta, m = drawn(n, seed), min(keep, n)
    for rule, kept in ((Krum(f), 1), (MultiKrum(f), n - f), (MultiKrum(f, m), m)):
        got = rule.aggregate(rows_of(delta), Now(1, 1))["delta"]
        np.testing.assert_allclose(got.numpy(), by_the_paper(delta, f, kept), rtol=1e-6, atol=1e-7)


@given(cohorts())
def test_they_are_flwrs(cohort: tuple[int, int, int]) -> None:
    n, f, seed = cohort
    library = pytest.importorskip("flwr.server.strategy.aggregate", reason="flwr is not installed (make oracle)")
    delta = drawn(n, seed).astype("f8")
    results = [([row[:2], row[2:].reshape(2, 2)], 1) for row in delta]
    for rule, kept in ((Krum(f), 0), (MultiKrum(f, n - f), n - f)):
        expected = np.concatenate([part.ravel() for part in library.aggregate_krum(results, f, kept)])
        got = rule.aggregate(rows_of(delta), Now(1, 1))["delta"]
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-7)


@given(cohorts(), st.randoms(use_true_random=False))
def test_another_order_of_the_clients_chooses_the_same(cohort: tuple[int, int, int], order: Any) -> None:
    n, f, seed = cohort
    assume(n - f - 2 > 1)  # of one neighbour each, the nearest two have equal scores, and the first of them is taken
    delta, places = drawn(n, seed), list(range(n))
    order.shuffle(places)
    for rule in (Krum(f), MultiKrum(f, 2)):
        assert sorted(places[i] for i in chosen(rule, delta[places])) == chosen(rule, delta)


@given(cohorts(), st.integers(-20, 20), st.integers(-3, 3))
def test_it_moves_and_grows_with_the_updates(cohort: tuple[int, int, int], shift: int, power: int) -> None:
    """Of coarse numbers, so that a shift is exact."""
    n, f, seed = cohort
    delta = np.round(drawn(n, seed) * 64) / 64
    assert chosen(MultiKrum(f), delta) == chosen(MultiKrum(f), 2.0**power * (delta + shift))


def test_of_equal_scores_the_first_client_is_taken() -> None:
    assert chosen(Krum(0), np.array([[5.0], [1.0], [1.0], [1.0]])) == [1]
    assert chosen(Krum(0), np.array([[0.0], [1.0], [2.0]])) == [0]
    assert chosen(MultiKrum(1, 2), np.ones((5, 3))) == [0, 1]


def test_its_other_parts_come_with_the_client_and_are_no_distance() -> None:
    control = np.array([[0.0], [7.0], [1e20], [3.0], [4.0]])
    now = Now(1, 1)
    got = Krum(1).aggregate(rows_of(np.array([[1.0], [1.1], [1.25], [1.6], [90.0]]), control=control), now)
    assert got["delta"].tolist() == [np.float32(1.1)]
    assert got["control"].tolist() == [7.0]
    assert now.shares == {0: 0.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0}
    assert now.metrics["score"] == pytest.approx(0.1**2 + 0.15**2, rel=1e-5)


@given(st.integers(0, 2**16))
def test_with_one_update_multi_krum_is_krum_and_with_all_the_mean(seed: int) -> None:
    rows = rows_of(drawn(9, seed))
    krum, one = (rule.aggregate(rows, Now(1, 1))["delta"] for rule in (Krum(2), MultiKrum(2, 1)))
    assert torch.equal(krum, one)
    every = MultiKrum(2, 9).aggregate(rows, Now(1, 1))["delta"]
    np.testing.assert_allclose(every.numpy(), rows.delta.double().mean(dim=0).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("f", [1, 2, 3])
def test_colluding_attackers_are_not_chosen(f: int) -> None:
    """As many as allowed, at one far point, so that they are each other's nearest."""
    delta = np.concatenate([drawn(f + 3, 0), np.full((f, 6), 50.0, dtype="f4")])
    assert chosen(Krum(f), delta)[0] < f + 3
    assert max(chosen(MultiKrum(f, 3), delta)) < f + 3


def test_scores_leave_out_the_update_itself() -> None:
    squares = torch.tensor([[0.0, 1.0, 9.0, 4.0], [1.0, 0.0, 4.0, 1.0], [9.0, 4.0, 0.0, 1.0], [4.0, 1.0, 1.0, 0.0]])
    assert scores(squares, 0).tolist() == [5.0, 2.0, 5.0, 2.0]
    assert scores(squares, 1).tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("rule", "least"), [(Krum(0), 3), (Krum(2), 7), (MultiKrum(2), 7), (MultiKrum(2, 3), 7), (MultiKrum(1, 9), 9)]
)
def test_it_says_how_many_updates_it_needs(rule: Krum, least: int) -> None:
    assert rule.least == least
    assert Mean().least == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Krum(-1), "byzantine=-1: it must be at least 0"),
        (lambda: MultiKrum(-1), "byzantine=-1: it must be at least 0"),
        (lambda: MultiKrum(1, 0), "keep=0: it must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
