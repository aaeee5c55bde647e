"""Bounds on epsilon from guesses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from fedray.audit.bound import Guesses, Line, log_ratio


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    guesses = Guesses(there=60, hits=45, away=80, alarms=8)
    low, high = binomtest(45, 60).proportion_ci(0.95).low, binomtest(8, 80).proportion_ci(0.95).high
    assert guesses.epsilon(0.01, 0.95) == pytest.approx(math.log((low - 0.01) / high), rel=1e-9)


def test_both_sides_of_a_guess_count() -> None:
    # Who says "not in" is never wrong: that bounds epsilon as well as alarms that never come.
    one, other = Guesses(500, 500, 500, 250).epsilon(0.0, 0.95), Guesses(500, 250, 500, 0).epsilon(0.0, 0.95)
    assert one == pytest.approx(other)
    assert one > 4.0


def test_bounds_grow_with_trials_and_fall_with_confidence_and_delta() -> None:
    few, many = Guesses(50, 40, 50, 10), Guesses(5000, 4000, 5000, 1000)
    assert few.epsilon(0.0, 0.95) < many.epsilon(0.0, 0.95) < math.log(4.0)
    assert few.epsilon(0.0, 0.99) < few.epsilon(0.0, 0.9)
    assert few.epsilon(0.1, 0.95) < few.epsilon(0.0, 0.95)
    assert Guesses(50, 25, 50, 25).epsilon(0.0, 0.95) == Guesses(0, 0, 9, 0).epsilon(0.0, 0.95) == 0.0


def test_a_true_claim_is_refuted_as_seldom_as_confidence_says() -> None:
    draw = np.random.default_rng(1)
    there, alarms = draw.binomial(200, norm.cdf(0.5), 2000), draw.binomial(200, norm.cdf(-0.5), 2000)
    true = math.log(norm.cdf(0.5) / norm.cdf(-0.5))
    wrong = [Guesses(200, h, 200, a).epsilon(0.0, 0.8) > true for h, a in zip(there, alarms, strict=True)]
    assert 0.0 < np.mean(wrong) <= 0.2


@pytest.mark.parametrize("away", [0.0, 0.5])
def test_the_score_is_the_ratio_of_the_densities(away: float) -> None:
    seen = np.array([[0.3, -1.0], [1.2, 0.4]])

    def density(place: float) -> NDArray[np.float64]:
        value: NDArray[np.float64] = 0.75 * norm.pdf(seen, away, 2.0) + 0.25 * norm.pdf(seen, place, 2.0)
        return value

    expected = np.log(density(1.0) / density(0.0)).sum(axis=0)
    np.testing.assert_allclose(log_ratio(seen, 2.0, 0.25, away), expected, rtol=1e-12)


def test_a_line_is_refuted_by_a_bound_above_it() -> None:
    assert Line(0.1, 1.0, 1.1).refuted
    assert not Line(0.1, math.inf, 9.0).refuted
    assert Line(0.1, math.inf, 9.0).to_json() == {"delta": 0.1, "claimed": None, "found": 9.0, "refuted": False}
