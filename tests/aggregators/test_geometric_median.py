"""The geometric median against a loop written from the paper, against scipy's optimizer, and as laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from fedray.aggregators import GeometricMedian
from fedray.aggregators.gathered import Rows
from fedray.core.now import Now
from tests.aggregators.test_krum import drawn, rows_of


def median(delta: NDArray[Any], weight: NDArray[Any] | None = None, rule: GeometricMedian | None = None) -> Any:
    rows = rows_of(delta)
    rows = rows if weight is None else Rows(rows.clients, weight, rows.parts)
    return (rule or GeometricMedian()).aggregate(rows, Now(1, 1))["delta"].double().numpy()


def objective(z: NDArray[Any], delta: NDArray[Any], weight: NDArray[Any]) -> float:
    return float(weight @ np.linalg.norm(delta.astype("f8") - z, axis=1) / weight.sum())


@given(st.integers(1, 9), st.integers(0, 2**16), st.integers(1, 4))
def test_its_steps_are_the_papers(count: int, seed: int, steps: int) -> None:
    """Algorithm 2: beta_k = alpha_k / max(nu, ||v - w_k||), v = sum_k beta_k w_k / sum_k beta_k."""
    w = drawn(count, seed).astype("f8")
    examples = np.random.default_rng(seed).integers(1, 30, count).astype("f8")
    alpha, nu, v = examples / examples.sum(), 0.5, np.median(w, axis=0)
    for _ in range(steps):
        beta = [alpha[k] / max(nu, float(np.sqrt(np.sum((v - w[k]) ** 2)))) for k in range(count)]
        v = sum(b * row for b, row in zip(beta, w, strict=True)) / sum(beta)
    got = median(w, examples, GeometricMedian(iterations=steps, eps=nu, tolerance=0.0))
    np.testing.assert_allclose(got, v, rtol=1e-6, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 12), st.integers(0, 2**16))
@pytest.mark.slow
def test_no_optimizer_of_scipys_finds_a_better_point(count: int, seed: int) -> None:
    delta = drawn(count, seed, 3)
    weight = np.random.default_rng(seed).integers(1, 9, count).astype("f8")
    best = min(
        minimize(objective, start, (delta, weight), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).fun
        for start in (delta.mean(axis=0), delta[int(weight.argmax())])
    )
    assert objective(median(delta, weight), delta, weight) <= best * (1 + 1e-4)


@given(st.integers(1, 9), st.integers(0, 2**16), st.randoms(use_true_random=False), st.integers(-99, 99))
def test_it_moves_with_the_updates_in_any_order(count: int, seed: int, order: Any, shift: int) -> None:
    delta, places = drawn(count, seed), list(range(count))
    order.shuffle(places)
    once = GeometricMedian(iterations=4, tolerance=0.0)
    moved = median(delta[places].astype("f8") + shift, rule=once)
    np.testing.assert_allclose(moved, median(delta, rule=once) + shift, rtol=1e-4, atol=1e-4)


def test_weights_count_and_an_outlier_does_not() -> None:
    delta = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1e30, -1e30]])
    heavy = median(delta, np.array([10.0, 1.0, 1.0, 5.0]))
    np.testing.assert_allclose(heavy, [0.0, 0.0], atol=1e-5)
    assert np.linalg.norm(median(delta)) < 3.0


def test_its_steps_and_shares_are_told() -> None:
    now, rows = Now(1, 1), rows_of(drawn(8, 2))
    shares = GeometricMedian().shares(rows, now)
    assert now.metrics["gradient"] <= 1e-6
    assert 1 < now.metrics["iterations"] < 100
    assert float(shares.sum()) == pytest.approx(1.0)
    few = Now(1, 1)
    GeometricMedian(iterations=3).shares(rows, few)
    assert few.metrics["iterations"] == 3
    assert few.metrics["gradient"] > 1e-6


@given(st.integers(1, 5), st.integers(0, 2**16))
def test_where_all_send_the_same_it_is_that(count: int, seed: int) -> None:
    delta = np.repeat(drawn(1, seed), count, axis=0)
    assert np.array_equal(median(delta).astype("f4"), delta[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"iterations": 0}, "iterations=0: it must be at least 1"),
        ({"eps": 0.0}, "eps=0.0: it must be above 0"),
        ({"eps": float("nan")}, "eps=nan"),
        ({"tolerance": -1.0}, "tolerance=-1.0: it must be from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GeometricMedian(**options)


def test_other_parts_have_the_clients_shares() -> None:
    delta = drawn(5, 1)
    got = GeometricMedian().aggregate(rows_of(delta, control=2 * delta), Now(1, 1))
    torch.testing.assert_close(got["control"], 2 * got["delta"])
