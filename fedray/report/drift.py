"""The differences between one group and all others: the population stability index, and what chance alone gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MODERATE, LARGE = 0.1, 0.25
"""The usual marks of the population stability index: from here on it is moderate, and large."""

_CHANCE = 0.99


def psi(own: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Return the population stability index of counts in bins, ``sum (p - q) ln(p / q)``; NaN where one is empty.

    Half a row is added to each bin of both, so that an empty bin gives no infinite value.

    >>> psi(np.array([50, 50]), np.array([500, 500])), round(psi(np.array([90, 10]), np.array([500, 500])), 3)
    (0.0, 0.853)

    Args:
        own: counts of the one group ``[k]``.
        others: of all others ``[k]``.
    """
    if not own.sum() or not others.sum():
        return float("nan")
    p, q = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (own, others))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def by_chance(own: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Return the index that groups of these sizes from one distribution pass in one case of a hundred.

    Then it is about ``(1/n + 1/m)`` times a chi-square of as many degrees of freedom as there are bins, less one
    (Yurdakul and Naranjo, Journal of Risk Model Validation, 2020).

    >>> round(by_chance(np.array([30, 30]), np.array([300, 300])), 3)
    0.122
    """
    from scipy.stats import chi2

    n, m = int(own.sum()), int(others.sum())
    if not n or not m:
        return float("inf")
    used = int(((own + others) > 0).sum())
    return float(chi2.ppf(_CHANCE, max(1, used - 1))) * (1 / n + 1 / m)


def distance(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far the mix of classes of each client is from that of all, ``[n]``: the total variation, in [0, 1].

    >>> distance(np.array([[10, 0], [0, 10], [5, 5]]))
    array([0.5, 0.5, 0. ])

    Args:
        counts: rows of each client and class ``[n, k]``.
    """
    mix = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    whole = counts.sum(axis=0) / max(1, counts.sum())
    found: NDArray[np.float64] = np.abs(mix - whole).sum(axis=1) / 2
    return found
