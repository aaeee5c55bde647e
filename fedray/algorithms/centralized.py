"""Training on all rows in one place: what federated training is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedray.algorithms.base import Algorithm, algorithms


@algorithms.register("centralized")
@dataclass(frozen=True)
class Centralized(Algorithm):
    """One client that has the training rows of all, as if they could be brought together.

    In a round it takes as many local steps as the clients of a federated cohort together, with the same batch size and
    optimizer, which is made anew in each round.  Evaluations are those of the clients: on their held-out rows and the
    test set.  Rows of silos cannot be brought together, and are refused.

    >>> Centralized().pools
    True
    """

    pools: ClassVar[bool] = True
