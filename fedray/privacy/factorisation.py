"""Bands of a lower triangular Toeplitz matrix C by which noise is correlated, so that sums over rounds have little."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fedray.core.messages import Floats

DIGITS = 6
"""The decimals that bands are rounded to: more of them would differ from one version of an optimizer to another."""


def square_root(bands: int) -> Floats:
    """Return the first coefficients of the square root of the matrix of all ones on and below the diagonal.

    They are ``c_k = (2k choose k) / 4^k`` (Fichtenberger et al., arXiv:2202.11205, section 4.1).

    >>> square_root(4)
    array([1.    , 0.5   , 0.375 , 0.3125])

    Args:
        bands: their number, at least 1.
    """
    later = np.arange(1, bands, dtype=np.float64)
    found: Floats = np.concatenate([[1.0], np.cumprod((2.0 * later - 1.0) / (2.0 * later))])
    return found


def inverse(coefficients: Floats, rounds: int) -> Floats:
    """Return the first column of the inverse of a Toeplitz matrix, ``[rounds]``.

    >>> inverse(np.array([1.0, 0.5]), 4)
    array([ 1.   , -0.5  ,  0.25 , -0.125])

    Args:
        coefficients: the first column of the matrix, without the zeros below.
        rounds: its size.
    """
    from scipy.signal import lfilter

    first = np.zeros(rounds)
    first[0] = 1.0
    found: Floats = lfilter([1.0], coefficients, first)
    return found


def squared_error(coefficients: Floats, rounds: int) -> float:
    """Return the mean over rounds of the variance of the noise on the sum of all rounds so far.

    That is ``||A C^-1||^2_F ||c||^2 / rounds`` (Choquette-Choo et al., arXiv:2306.08153, section 3), of a matrix A of
    ones on and below the diagonal, and one participation of a client whose update has the norm 1, at a noise multiplier
    of 1.

    >>> squared_error(np.array([1.0]), 3)  # independent noise
    2.0

    Args:
        coefficients: of C, see :func:`inverse`.
        rounds: the number of them.
    """
    prefix = np.cumsum(inverse(coefficients, rounds))
    left = np.arange(rounds, 0, -1)
    return float(left @ prefix**2 * (coefficients @ coefficients) / rounds)


@lru_cache(maxsize=64)
def banded(rounds: int, bands: int) -> tuple[float, ...]:
    """Return the coefficients c_0 = 1, ..., c_(bands - 1) of the least :func:`squared_error`, none below 0.

    The matrix of the paper (arXiv:2306.08153, section 3) may have another band in each row; this is the best of those
    that are Toeplitz (as arXiv:2405.15913 takes them), found by L-BFGS-B from :func:`square_root` on, with exact
    gradients, to six decimals.  That none is negative makes its sensitivity known (their theorem 2).

    >>> banded(64, 4)
    (1.0, 0.670215, 0.561738, 0.479454)

    Args:
        rounds: the number of rounds, at least 1.
        bands: the number of coefficients, 1 to rounds.
    """
    if bands == 1:
        return (1.0,)
    from scipy.optimize import minimize
    from scipy.signal import lfilter

    left = np.arange(rounds, 0, -1, dtype=np.float64)

    def loss(later: Floats) -> tuple[float, Floats]:
        """Return the logarithm of the error and its gradient: of 1 / c(x) that is -1 / c(x)^2."""
        c = np.concatenate([[1.0], later])
        once = inverse(c, rounds)
        prefix, moves = np.cumsum(once), np.cumsum(lfilter([1.0], c, once))
        weighted = left * prefix
        error, length = float(weighted @ prefix), float(c @ c)
        slope = [-2.0 * float(weighted[j:] @ moves[: rounds - j]) / error for j in range(1, bands)]
        return float(np.log(error) + np.log(length)), np.array(slope) + 2.0 * later / length

    start = square_root(bands)[1:]
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * len(start),
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-10},
    )
    return (1.0, *(round(float(each), DIGITS) for each in found.x))
