"""Centered clipping against a loop written from the paper, with its v from round to round, and as laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.aggregators import CenteredClip
from fedray.core.now import Now
from tests.aggregators.test_krum import drawn, rows_of

RADII = st.sampled_from([0.1, 1.0, 2.5, 1e6])


def run(rule: CenteredClip, rounds: list[NDArray[Any]], state: Any = None) -> tuple[list[NDArray[Any]], Now]:
    """The aggregates of some rounds one after the other."""
    kept = state or rule.initial_state({"delta": rounds[0].shape[1]}, "cpu")
    results = []
    for number, delta in enumerate(rounds, 1):
        now = Now(1, number, dict(kept))
        results.append(rule.aggregate(rows_of(delta), now)["delta"].double().numpy())
        kept = now.state
    return results, now


@given(st.integers(1, 7), st.integers(0, 2**16), RADII, st.integers(1, 3))
def test_it_is_the_papers(count: int, seed: int, tau: float, steps: int) -> None:
    """V <- v + 1/n sum_i (x_i - v) min(1, tau / ||x_i - v||), from the v of the round before."""
    rounds = [drawn(count, seed + number) for number in range(3)]
    v, expected = np.zeros(6), []
    for delta in rounds:
        for _ in range(steps):
            change = np.zeros(6)
            for row in delta.astype("f8"):
                length = float(np.sqrt(np.sum((row - v) ** 2)))
                change += (row - v) * (min(1.0, tau / length) if length else 1.0)
            v = v + change / count
        expected.append(v)
    got, _ = run(CenteredClip(tau, steps), rounds)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 7), st.integers(0, 2**16), RADII, st.integers(-9, 9), st.randoms(use_true_random=False))
def test_it_moves_with_the_updates_and_v_in_any_order(
    count: int, seed: int, tau: float, shift: int, order: Any
) -> None:
    delta, places = drawn(count, seed), list(range(count))
    order.shuffle(places)
    here, _ = run(CenteredClip(tau), [delta], {"delta": torch.zeros(6)})
    there, _ = run(CenteredClip(tau), [delta[places] + np.float32(shift)], {"delta": torch.full((6,), float(shift))})
    np.testing.assert_allclose(there[0], here[0] + shift, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 7), st.integers(0, 2**16))
def test_with_a_radius_beyond_all_updates_it_is_the_mean(count: int, seed: int) -> None:
    rounds = [drawn(count, seed), drawn(count, seed + 1)]
    got, now = run(CenteredClip(1e9), rounds)
    np.testing.assert_allclose(got[1], rounds[1].astype("f8").mean(axis=0), rtol=1e-6, atol=1e-7)
    assert now.metrics == {"clipped": 0.0, "share": pytest.approx(1.0)}


@given(st.integers(1, 3), st.integers(0, 2**16), RADII)
def test_liars_move_it_by_their_share_of_the_radius(liars: int, seed: int, tau: float) -> None:
    honest = drawn(9, seed)
    lying = np.concatenate([honest, np.full((liars, 6), 1e30, dtype="f4")])
    v = honest[0].astype("f8")
    got, now = run(CenteredClip(tau), [lying], {"delta": torch.from_numpy(honest[0])})
    without, _ = run(CenteredClip(tau), [honest], {"delta": torch.from_numpy(honest[0])})
    rest = v + (without[0] - v) * 9 / (9 + liars)
    assert np.linalg.norm(got[0] - rest) <= tau * liars / (9 + liars) * (1 + 1e-4) + 1e-5
    assert now.metrics["clipped"] >= liars


def test_what_is_kept_is_the_aggregate_and_lies_elsewhere() -> None:
    now = Now(1, 1, CenteredClip(1.0).initial_state({"delta": 6, "control": 2}, "cpu"))
    before = now.state["delta"]
    total = CenteredClip(1.0).aggregate(rows_of(drawn(4, 1), control=drawn(4, 2, 2)), now)
    assert sorted(total) == ["control", "delta"]
    for name, part in total.items():
        assert torch.equal(part, now.state[name])
        assert part.data_ptr() != now.state[name].data_ptr()
    assert not before.any(), "what the round began with is as it was"


def test_other_parts_are_clipped_by_the_factor_of_the_client() -> None:
    delta = np.array([[3.0], [0.5]])
    now = Now(1, 1, CenteredClip(1.0).initial_state({"delta": 1, "control": 1}, "cpu"))
    total = CenteredClip(1.0).aggregate(rows_of(delta, control=10 * delta), now)
    assert total["delta"].tolist() == [0.75]
    assert total["control"].tolist() == [7.5]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CenteredClip(0.0), "radius=0.0: it must be above 0"),
        (lambda: CenteredClip(float("nan")), "radius=nan"),
        (lambda: CenteredClip(1.0, 0), "steps=0: it must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
