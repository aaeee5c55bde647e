"""Drift, against its definition and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.report.drift import by_chance, distance, psi

COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=3)


@given(COUNTS, COUNTS)
def test_it_is_symmetric_and_never_negative(own: list[int], others: list[int]) -> None:
    one, other = psi(np.array(own), np.array(others)), psi(np.array(others), np.array(own))
    if not sum(own) or not sum(others):
        assert np.isnan(one)
        return
    assert one == pytest.approx(other)
    assert one >= 0.0


def test_it_is_zero_for_the_same_mix_and_as_published_for_another() -> None:
    assert psi(np.array([300, 700]), np.array([300, 700])) == 0.0
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    exact = ((p - q) * np.log(p / q)).sum()
    assert psi((p * 1e6).astype(int), (q * 1e6).astype(int)) == pytest.approx(exact, rel=1e-4)


def test_chance_passes_its_mark_in_one_case_of_a_hundred() -> None:
    draw = np.random.default_rng(3)
    own, others = draw.multinomial(80, np.full(10, 0.1), 4000), draw.multinomial(900, np.full(10, 0.1), 4000)
    mark = by_chance(own[0], others[0])
    passed = np.mean([psi(a, b) > mark for a, b in zip(own, others, strict=True)])
    assert 0.002 < passed < 0.03


def test_a_client_of_one_class_is_far_from_an_even_mix() -> None:
    assert distance(np.array([[4, 4], [8, 0], [0, 8]])).tolist() == [0.0, 0.5, 0.5]
    assert distance(np.array([[0, 0], [1, 1]])).tolist() == [0.5, 0.0]
