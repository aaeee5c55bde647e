"""The geometric median of updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.aggregators.base import aggregators
from fedray.aggregators.distances import distances_to
from fedray.aggregators.gathered import Rows, Selected, joined, ordered
from fedray.config.bounds import check_above_0, check_at_least_1
from fedray.core.messages import DELTA
from fedray.core.now import Now


@aggregators.register("geometric_median")
@dataclass(frozen=True)
class GeometricMedian(Selected):
    """The geometric median: smoothed Weiszfeld algorithm of RFA (Pillutla et al., arXiv:1912.13445, Algorithm 2).

    It makes ``g(z) = sum_i a_i ||z - x_i||`` small, with the clients' weights ``a_i``, which sum to 1:
    ``b_i = a_i / max(eps, ||z - x_i||)``, then ``z = sum_i b_i x_i / sum_i b_i``, again and again.  The shares are the
    last ``b_i / sum_j b_j``; distances are those of the trained parameters' changes, and a client's other parts have
    its share too.  The record has the number of ``iterations``, and the length of g's ``gradient`` before the last.

    Deviations: the paper's experiments do three iterations from the mean.  These start at the coordinate-wise median,
    as outliers pull the mean as far away as they like, and end when the gradient of g is short, which is a matter
    of angles alone and so of no scale.  With ``iterations=1`` it is one step from the coordinate-wise median.

    >>> import numpy as np
    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0], [1e6, 1e6]])
    >>> rows = Rows(np.arange(5), np.ones(5), {"delta": x})
    >>> GeometricMedian().aggregate(rows, Now(seed=1, round=1))["delta"]
    tensor([1.5774, 1.5774])

    Args:
        iterations: the most, at least 1.
        eps: nu, the distance below which a client counts as if it were so far away, above 0; the paper's.
        tolerance: the length of the gradient at which it ends, from 0 (never before ``iterations``) to 1.
    """

    iterations: int = 100
    eps: float = 1e-6
    tolerance: float = 1e-6
    by_columns: ClassVar[bool] = True
    weighted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least_1(iterations=self.iterations)
        check_above_0(eps=self.eps)
        if not 0.0 <= self.tolerance <= 1.0:
            raise ValueError(f"tolerance={self.tolerance}: it must be from 0 to 1")

    def shares(self, rows: Rows, now: Now) -> Tensor:
        """Return the shares of the last step."""
        point = joined((_middle(piece) for piece in rows.pieces(DELTA)), rows.width(DELTA))
        weight = torch.from_numpy(rows.weight / rows.weight.sum()).to(point.device)
        shares, gradient, done = weight, 1.0, 0
        while done < self.iterations and gradient > self.tolerance:
            inverse = weight / distances_to(rows.pieces(DELTA), point).clamp_(min=self.eps)
            shares = inverse / inverse.sum()
            further = rows.combined(shares, DELTA)
            gradient = float(torch.linalg.vector_norm(further - point) * inverse.sum())
            point, done = further, done + 1
        now.metrics.update(iterations=float(done), gradient=gradient)
        return shares


def _middle(rows: Tensor) -> Tensor:
    """Return the coordinate-wise median of ``[n, k]``, float64 ``[k]``: the mean of the middle two for an even n."""
    values = ordered(rows)
    return (values[(len(rows) - 1) // 2].double() + values[len(rows) // 2].double()) / 2
