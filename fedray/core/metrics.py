"""Metrics as monoids: a zero, an associative merge, a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean as a monoid: ``Mean()`` is zero, ``+`` merges, ``result`` is NaN for no weight.

    >>> (Mean(6.0, 2) + Mean(0.0, 1) + Mean()).result
    2.0
    """

    total: float = 0.0
    weight: float = 0.0

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.weight + other.weight)

    @property
    def result(self) -> float:
        """``total / weight``."""
        return self.total / self.weight if self.weight else float("nan")


def merge(parts: list[Mapping[str, Mean]]) -> dict[str, Mean]:
    """Merge metric by metric, in the order given."""
    total: dict[str, Mean] = {}
    for part in parts:
        for name, mean in part.items():
            total[name] = total.get(name, Mean()) + mean
    return total


def auc(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the area under the ROC curve of binary ``labels`` (1 positive); ties count one half (Mann-Whitney).

    Returns NaN when one of the classes is absent.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    positive, negative = int((labels == 1).sum()), int((labels != 1).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))
