"""A Little Is Enough against a loop written from the paper, with its z from scipy's normal quantile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fedray.attacks import ALIE
from fedray.attacks.alie import largest_z


@given(st.integers(1, 9), st.integers(0, 2**16), st.floats(0.0, 4.0))
def test_all_attackers_send_the_mean_less_z_deviations(count: int, seed: int, z: float) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, 5)).astype("f4")
    expected = []
    for j in range(5):
        column = [float(row[j]) for row in rows]
        mean = sum(column) / count
        expected.append(mean - z * math.sqrt(sum((value - mean) ** 2 for value in column) / count))
    lying = torch.arange(0, count, 2)
    sent = ALIE(z=z).forge(torch.from_numpy(rows), lying, [])
    assert sent.shape == (len(lying), 5)
    np.testing.assert_allclose(sent.numpy(), np.tile(expected, (len(lying), 1)), rtol=1e-5, atol=1e-6)


@given(st.integers(3, 200), st.integers(1, 99))
def test_z_is_the_papers(n: int, m: int) -> None:
    """S = floor(n / 2 + 1) - m supporters; the largest z with Phi(z) < (n - m - s) / (n - m)."""
    m = min(m, n // 2)
    s = math.floor(n / 2 + 1) - m
    expected = norm.ppf((n - m - s) / (n - m))
    assert largest_z(n, m) == pytest.approx(min(max(expected, 0.0), norm.ppf(0.9999)), abs=1e-9)


@pytest.mark.parametrize(("n", "m", "z"), [(1, 1, 3.72), (2, 1, 0.0), (9, 5, 3.72), (9, 9, 3.72), (9, 0, 0.0)])
def test_where_the_paper_has_no_z_there_is_one(n: int, m: int, z: float) -> None:
    assert largest_z(n, m) == pytest.approx(z, abs=0.01)


def test_without_a_z_it_is_that_of_the_cohort() -> None:
    rows, lying = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    assert torch.equal(ALIE().forge(rows, lying, []), ALIE(z=largest_z(20, 8)).forge(rows, lying, []))


@pytest.mark.parametrize("z", [-0.1, float("nan")])
def test_a_negative_z_is_refused(z: float) -> None:
    with pytest.raises(ValueError, match="z="):
        ALIE(z=z)
