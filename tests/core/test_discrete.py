"""Draws of the discrete Gaussian: their exact distribution, and the same for the same words."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import stats

from fedray.core import discrete
from fedray.core.discrete import LARGEST, DiscreteGaussian, Words
from fedray.core.noise import Stream


def draws(square: int, count: int, key: int = 0) -> np.ndarray:
    return DiscreteGaussian(square).draw(Stream(bytes([key]) * 32).words, count)


def given(words: list[list[int]]) -> Words:
    """Return what draws these words, in so many calls."""
    left = iter(words)
    return lambda count: np.array(next(left), np.uint64)


@pytest.mark.parametrize("square", [1, 2, 7, 36, 1000])
def test_the_distribution_is_the_exact_one(square: int) -> None:
    count, sigma = 200_000, math.sqrt(square)
    found = draws(square, count)
    # Cells of at least a quarter of a standard deviation, the last ones open.
    width, reach = max(1, int(sigma / 4)), math.ceil(12 * sigma)
    values = np.arange(-reach, reach + 1)
    mass = np.exp(-(values**2) / (2 * square))
    cells = np.clip(values // width, -(int(3 * sigma) // width), int(3 * sigma) // width)
    expected = np.array([mass[cells == cell].sum() for cell in np.unique(cells)]) / mass.sum()
    own = np.clip(found // width, cells.min(), cells.max())
    seen = np.array([(own == cell).sum() for cell in np.unique(cells)])
    assert stats.chisquare(seen, count * expected).pvalue > 1e-3


@pytest.mark.parametrize("square", [2**24, DiscreteGaussian.at_least(2**24 + 1).square, LARGEST])
def test_wide_ones_are_as_good_as_normal(square: int) -> None:
    found = draws(square, 100_000) / math.sqrt(square)
    assert stats.kstest(found, stats.norm.cdf).pvalue > 1e-3
    assert found.var() == pytest.approx(1.0, abs=4.0 * math.sqrt(2.0 / len(found)))


def test_no_more_words_than_asked_for_are_needed_and_any_number_may_be() -> None:
    assert len(draws(9, 100_001)) == 100_001
    assert draws(9, 0).tolist() == []
    assert draws(9, 50).tolist() == draws(9, 50).tolist() != draws(9, 50, key=1).tolist()


def test_1_over_e_is_known_by_its_bits_and_a_tie_goes_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *more = discrete._INVERSE_E
    with localcontext(prec=120):
        assert sum(word << 64 * place for place, word in enumerate((*reversed(more), first))) == int(
            Decimal(-1).exp() * 2**256
        )
    # A first word that ties: the second, uniform over a quarter of which all are below, decides.
    monkeypatch.setattr(discrete, "_INVERSE_E", (first, 2**62, 0))
    words = iter(
        [np.array([first, first, first - 1, first + 1], np.uint64), np.array([2**62 - 1, 2**62 + 1], np.uint64)]
    )
    assert discrete._once(lambda count: next(words), 4).tolist() == [True, False, True, False]


def test_uniform_numbers_have_no_bias_by_a_remainder() -> None:
    below = 3 * 2**62  # of the words a quarter is drawn again
    given = iter(
        [np.array([2**63, below, 2**64 - 1], np.uint64), np.array([5, below + 1], np.uint64), np.array([7], np.uint64)]
    )
    assert discrete._uniform(lambda count: next(given), 3, below).tolist() == [2**63, 5, 7]


@pytest.mark.parametrize("square", [0, LARGEST + 1, 2**30 + 1])
def test_what_cannot_be_drawn_exactly_is_refused(square: int) -> None:
    with pytest.raises(ValueError, match=r"sigma\^2 is a whole number from 1|a multiple of 32768"):
        DiscreteGaussian(square)


def test_at_least_is_the_least_that_there_is() -> None:
    for square in (1, 5, 2**24, 2**24 + 1, 10**12 + 7):
        found = DiscreteGaussian.at_least(square).square
        assert square <= found <= square * (1.0 + 1.0 / 2800.0)
