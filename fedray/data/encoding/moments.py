"""Means and variances of columns whose rows lie in several silos, from sums that the silos may share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sums:
    """A silo's sums over its numeric columns: per column a count, a sum, and a sum of squares about ``center``.

    Sums merge by addition, so the federated mean and variance need no row of any silo.  They are taken twice: about
    zero, which gives the mean, then about that mean, which gives the variance without the cancellation that sums about
    zero suffer where a column's mean is large.

    Args:
        center: the number subtracted from each value first, float64 ``[k]``; equal in all silos.
        count: values that are not missing, ``[k]``.
        total: sum of ``value - center``, ``[k]``.
        squares: sum of ``(value - center)**2``, ``[k]``.
    """

    center: NDArray[np.float64]
    count: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @staticmethod
    def of(values: NDArray[np.float64], center: NDArray[np.float64]) -> Sums:
        """Sum a silo's rows ``[m, k]``, in which NaN is missing."""
        shifted = values - center
        count = (~np.isnan(shifted)).sum(axis=0).astype(np.float64)
        return Sums(center, count, np.nansum(shifted, axis=0), np.nansum(np.square(shifted), axis=0))

    def merge(self, other: Sums) -> Sums:
        """Return the sums of both silos together."""
        count, total = self.count + other.count, self.total + other.total
        return Sums(self.center, count, total, self.squares + other.squares)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of each column, ``[k]``."""
        return self.center + self.total / self.count

    def deviation(self) -> NDArray[np.float64]:
        """Return the population standard deviation, ``[k]``.

        Exactly 0 for a constant column if ``center`` is its mean.
        """
        variance = self.squares / self.count - np.square(self.total / self.count)
        return np.sqrt(np.maximum(variance, 0.0))


def federated_moments(
    sums: Callable[[NDArray[np.float64]], Sequence[Sums]], columns: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and population standard deviation of each column over all silos, ``[k]`` each.

    The mean of a column without values is NaN.

    Args:
        sums: gives every silo's sums about a centre ``[k]``; called twice.
        columns: k.
    """
    first = reduce(Sums.merge, sums(np.zeros(columns)))
    if not first.count.all():
        return np.where(first.count > 0, 0.0, np.nan), np.zeros_like(first.total)
    second = reduce(Sums.merge, sums(first.mean()))
    return second.mean(), second.deviation()
