"""Krum and Multi-Krum: the updates that lie closest to their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from fedray.aggregators.base import aggregators
from fedray.aggregators.distances import pairwise
from fedray.aggregators.gathered import Rows, Selected, ordered
from fedray.core.messages import DELTA
from fedray.core.now import Now


@aggregators.register("krum")
@dataclass(frozen=True)
class Krum(Selected):
    """Krum, the update that lies closest to its neighbours (Blanchard et al., arXiv:1703.02757, section 4).

    The score of client i is ``s(i) = sum ||x_i - x_j||^2`` over the ``n - f - 2`` others that are nearest to it; the
    client of the smallest score has share 1.  Where scores are equal it is the one that comes first in the data; the
    paper leaves that open.  Distances are those of the trained parameters' changes, and the client's other parts
    (statistics, control variates) are taken with them.  The record has the smallest ``score`` of a round.

    >>> import numpy as np
    >>> rows = Rows(np.arange(5), np.ones(5), {"delta": torch.tensor([[1.0], [1.1], [1.3], [1.6], [-900.0]])})
    >>> Krum(byzantine=1).shares(rows, Now(seed=1, round=1)).tolist()
    [0.0, 1.0, 0.0, 0.0, 0.0]
    >>> Krum(byzantine=1).least
    5

    Args:
        byzantine: f, the number of attackers that a cohort may have, at least 0; a cohort needs ``2 f + 2 < n``.
    """

    byzantine: int
    by_columns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.byzantine < 0:
            raise ValueError(f"byzantine={self.byzantine}: it must be at least 0")

    @property
    def least(self) -> int:
        """``2 f + 3`` updates (the paper's Proposition 4.2)."""
        return 2 * self.byzantine + 3

    def shares(self, rows: Rows, now: Now) -> Tensor:
        """Return 1 for the client of the smallest score, 0 for all others."""
        return self._best(rows, now, 1)

    def _best(self, rows: Rows, now: Now, keep: int) -> Tensor:
        """Return ``1 / keep`` for the clients of the smallest scores."""
        score = scores(pairwise(partial(rows.reduced, DELTA)), self.byzantine)
        order = score.argsort(stable=True)
        now.metrics["score"] = float(score[order[0]])
        shares = torch.zeros_like(score)
        shares[order[:keep]] = 1.0 / keep
        return shares


@aggregators.register("multi_krum")
@dataclass(frozen=True)
class MultiKrum(Krum):
    """Multi-Krum, the mean of the m updates of the best scores (Blanchard et al., arXiv:1703.02757, section 4).

    Scores are Krum's; ``keep=1`` is Krum, bitwise, and ``keep=n`` the mean in which every client counts the same.

    >>> import numpy as np
    >>> rows = Rows(np.arange(5), np.ones(5), {"delta": torch.tensor([[1.0], [1.1], [1.3], [1.6], [-900.0]])})
    >>> MultiKrum(byzantine=1, keep=2).shares(rows, Now(seed=1, round=1)).tolist()
    [0.5, 0.5, 0.0, 0.0, 0.0]

    Args:
        byzantine: f, the number of attackers that a cohort may have, at least 0; a cohort needs ``2 f + 2 < n``.
        keep: m, from 1 to n; null: ``n - f``.
    """

    keep: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep={self.keep}: it must be at least 1, or null for all but byzantine")

    @property
    def least(self) -> int:
        """``2 f + 3`` updates, and not fewer than are kept."""
        return max(super().least, self.keep or 0)

    def shares(self, rows: Rows, now: Now) -> Tensor:
        """Return ``1 / m`` for the clients of the m smallest scores, 0 for all others."""
        return self._best(rows, now, self.keep or len(rows) - self.byzantine)


def scores(squares: Tensor, byzantine: int) -> Tensor:
    """Return Krum's scores ``[n]`` of squared distances ``[n, n]``: the sum of each row's smallest, but itself.

    >>> scores(torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]]), byzantine=0)
    tensor([1., 1., 1.])

    Args:
        squares: symmetric.
        byzantine: f; ``n - f - 2`` distances are added up.
    """
    others = squares.clone().fill_diagonal_(float("inf"))
    return ordered(others)[: len(squares) - byzantine - 2].sum(dim=0)
