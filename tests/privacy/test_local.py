"""The randomizer of a client: calibrated exactly, clipped in each norm, and composed over its participations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from fedray.core.rng import numpy_generator
from fedray.privacy.local import (
    Mechanism,
    Randomizer,
    composed,
    gaussian_delta,
    gaussian_deviation,
    laplace_scale,
)

EPSILONS = (0.01, 0.1, 1.0, 10.0, 50.0)
DELTAS = (1e-10, 1e-5, 1e-2)


def hockey_stick(deviation: float, epsilon: float, shift: float) -> float:
    """The definition itself, by quadrature: the integral of max(0, p - e^epsilon q) of two shifted normals."""
    one, other = stats.norm(shift, deviation), stats.norm(0.0, deviation)
    crossing = epsilon * deviation**2 / shift + shift / 2.0
    top = max(crossing, shift) + 40.0 * deviation
    found, _ = integrate.quad(
        lambda x: one.pdf(x) - math.exp(epsilon + other.logpdf(x)), crossing, top, epsabs=1e-15, limit=500
    )
    return float(found)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("deviation", [0.3, 1.0, 3.0])
def test_delta_is_the_divergence_that_the_definition_names(epsilon: float, deviation: float) -> None:
    assert gaussian_delta(deviation, epsilon, 0.7) == pytest.approx(hockey_stick(deviation, epsilon, 0.7), abs=1e-12)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("delta", DELTAS)
def test_the_deviation_is_the_least_that_is_private(epsilon: float, delta: float) -> None:
    found = gaussian_deviation(epsilon, delta, 3.0)
    assert gaussian_delta(found, epsilon, 3.0) <= delta
    assert gaussian_delta(found * (1.0 - 1e-6), epsilon, 3.0) > delta
    assert found == pytest.approx(3.0 * gaussian_deviation(epsilon, delta), rel=1e-9)


def test_the_classical_formula_has_too_little_noise_at_ten_and_too_much_below_one() -> None:
    def classical(epsilon: float) -> float:
        return math.sqrt(2.0 * math.log(1.25 / 1e-5)) / epsilon

    assert gaussian_delta(classical(10.0), 10.0) > 1.1e-5
    assert gaussian_deviation(10.0, 1e-5) > classical(10.0)
    assert gaussian_deviation(0.5, 1e-5) < classical(0.5)


@given(st.floats(0.01, 20.0), st.floats(0.01, 20.0), st.sampled_from(DELTAS))
def test_more_privacy_is_more_noise(one: float, other: float, delta: float) -> None:
    low, high = sorted((one, other))
    assert gaussian_deviation(low, delta) >= gaussian_deviation(high, delta)
    assert gaussian_deviation(low, delta) >= gaussian_deviation(low, 2.0 * delta)


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_the_noise_has_the_deviation_that_is_said_and_its_distribution(mechanism: Mechanism) -> None:
    one = Randomizer.calibrated(mechanism, epsilon=2.0, delta=1e-5, norm=0.5)
    count = 500_000
    draws = [numpy_generator(3, "noise", 1, client).standard_normal for client in range(2)]
    noised = one.noised(torch.zeros(2, count), draws).double().numpy()
    wanted = one.deviation
    # Four standard errors; the kurtosis of Laplace's distribution is 6.
    error = math.sqrt((5.0 if mechanism == "laplace" else 2.0) / (4.0 * 2 * count))
    assert noised.std() == pytest.approx(wanted, rel=4.0 * error)
    law = stats.laplace(0.0, one.spread) if mechanism == "laplace" else stats.norm(0.0, one.spread)
    assert stats.kstest(noised[0, :100_000], law.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noised)[0, 1]) < 4.0 / math.sqrt(count)


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.sampled_from(["gaussian", "laplace"]))
def test_no_client_sends_more_than_the_norm_before_the_noise(seed: int, scale: float, mechanism: Mechanism) -> None:
    rows = torch.randn(5, 40, generator=torch.Generator().manual_seed(seed)) * scale
    rows[1], rows[2, 3], rows[3, 0] = 0.0, math.nan, math.inf
    clipped = Randomizer(mechanism, norm=1.0).noised(rows, [np.zeros] * 5).double()
    norms = torch.linalg.vector_norm(clipped, 1.0 if mechanism == "laplace" else 2.0, dim=1)
    assert (norms <= 1.0).all()
    assert norms[1:4].tolist() == [0.0, 0.0, 0.0]
    if float(rows[0].double().norm(p=1.0)) <= 1.0:
        assert torch.equal(clipped[0].float(), rows[0])


def test_a_laplace_update_is_released_at_its_epsilon_whatever_the_two_updates() -> None:
    one = Randomizer.calibrated("laplace", epsilon=1.6, norm=0.5)
    # The largest ratio of densities, of updates at the opposite ends of the ball.
    assert 2 * one.norm / one.spread == pytest.approx(1.6)
    assert laplace_scale(1.6, 1.0) == one.spread


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_participations_compose_to_the_exact_figure_and_not_to_their_sum(epsilon: float) -> None:
    one = Randomizer.calibrated("gaussian", epsilon=epsilon, delta=1e-6, norm=3.0)
    assert 0.998 * epsilon < one.spent(1, 1e-6) <= epsilon
    found = [one.spent(k, 1e-6) for k in (0, 1, 2, 10, 100)]
    assert found == sorted(found)
    for k, spent in zip((2, 10, 100), found[2:], strict=True):
        assert spent < k * epsilon
        assert gaussian_delta(one.spread / math.sqrt(k), spent, 2.0 * one.norm) == pytest.approx(1e-6, rel=1e-6)
        again = Randomizer.calibrated("gaussian", epsilon, 1e-6, 3.0, participations=k)
        assert 0.998 * epsilon < again.spent(k, 1e-6) <= epsilon
    assert 0.998 * 7 * epsilon < Randomizer.calibrated("laplace", epsilon).spent(7) <= 7 * epsilon


@given(st.lists(st.floats(0.3, 9.0), min_size=1, max_size=6), st.floats(0.3, 9.0), st.sampled_from(DELTAS))
def test_each_release_costs_something_whatever_the_others_were(others: list[float], one: float, delta: float) -> None:
    releases = [Randomizer("gaussian", multiplier).release() for multiplier in others]
    more = composed([*releases, Randomizer("gaussian", one).release()], delta)
    assert composed(releases, delta) <= more
    assert more >= composed([Randomizer("gaussian", min(one, *others)).release()], delta)
    # Laplace's epsilon is added to that of all Gaussian ones.
    assert composed([*releases, Randomizer("laplace", one).release()], delta) == pytest.approx(
        composed(releases, delta) + 1.0 / one
    )


@pytest.mark.parametrize(("epsilon", "delta", "sensitivity"), [(0.0, 1e-5, 1.0), (1.0, 1.0, 1.0), (1.0, 1e-5, -1.0)])
def test_what_is_no_privacy_is_refused(epsilon: float, delta: float, sensitivity: float) -> None:
    with pytest.raises(ValueError, match="it must be above 0"):
        gaussian_deviation(epsilon, delta, sensitivity)
