"""The bands of correlated noise: what they are known to be, and that there are no better ones near."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import solve_triangular, toeplitz

from fedray.privacy.factorisation import banded, inverse, square_root, squared_error


def test_the_square_root_of_the_matrix_of_ones_squares_to_it() -> None:
    root = np.tril(toeplitz(square_root(12)))
    assert np.allclose(root @ root, np.tril(np.ones((12, 12))))
    assert square_root(12).tolist() == pytest.approx([math.comb(2 * k, k) / 4**k for k in range(12)])


@pytest.mark.parametrize("coefficients", [[1.0], [1.0, 0.3], [1.0, 0.5, 0.4, 0.1]])
def test_inverse_and_error_are_those_of_the_matrices(coefficients: list[float]) -> None:
    c, rounds = np.array(coefficients), 9
    matrix = np.tril(toeplitz(np.pad(c, (0, rounds - len(c)))))
    inverted = np.linalg.inv(matrix)
    assert np.allclose(inverse(c, rounds), inverted[:, 0])
    b = np.tril(np.ones((rounds, rounds))) @ inverted
    assert squared_error(c, rounds) == pytest.approx(np.square(b).sum() * np.square(matrix[:, 0]).sum() / rounds)


@pytest.mark.parametrize(("rounds", "bands"), [(2, 2), (16, 16), (64, 4), (200, 20)])
def test_there_is_nothing_better_near_and_the_square_root_is_worse(rounds: int, bands: int) -> None:
    found = np.array(banded(rounds, bands))
    least = squared_error(found, rounds)
    assert found[0] == 1.0
    assert (found >= 0.0).all()
    assert least < squared_error(square_root(bands), rounds) < squared_error(np.ones(1), rounds)
    for place in range(1, bands):
        for step in (-1e-3, 1e-3):
            other = found.copy()
            other[place] += step
            assert squared_error(other, rounds) > least * (1 - 1e-9)


def test_more_bands_are_better() -> None:
    errors = [squared_error(np.array(banded(64, bands)), 64) for bands in (1, 2, 4, 8, 16, 32, 64)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == 32.5, "noise drawn anew: the mean of 1, ..., 64"


def test_of_two_rounds_it_is_the_closed_form() -> None:
    """With C = [[1, 0], [c, 1]], A C^-1 = [[1, 0], [1 - c, 1]]: the least (1 + (1 - c)^2 + 1) (1 + c^2)."""
    roots = np.roots([4.0, -6.0, 8.0, -2.0])
    (c,) = [root.real for root in roots if abs(root.imag) < 1e-9]
    assert banded(2, 2)[1] == pytest.approx(c, abs=1e-6)
    assert solve_triangular([[1, 0], [c, 1]], [1, 2], lower=True)[1] == pytest.approx(2 - c)
