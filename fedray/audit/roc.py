"""The ROC of scores that tell members from others, the area under it, and hits at few false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.messages import Floats


@dataclass(frozen=True, eq=False)
class Roc:
    """The ROC of scores.

    >>> roc = Roc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    >>> roc.auc, roc.hits(0.0), roc.hits(0.5)
    (0.875, 0.5, 1.0)

    Args:
        scores: the larger, the surer that it is a member, ``[n]``.
        there: True for members, ``[n]``, of which there is one at least, as of others.
    """

    scores: Floats
    there: NDArray[np.bool_]

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """The shares of false alarms and of hits at each threshold, rising, from (0, 0) to (1, 1)."""
        order = np.argsort(-self.scores, kind="stable")
        last = np.append(np.flatnonzero(np.diff(self.scores[order])), len(order) - 1)
        hits, alarms = (np.concatenate([[0], np.cumsum(mask[order])[last]]) for mask in (self.there, ~self.there))
        return alarms / alarms[-1], hits / hits[-1]

    @property
    def auc(self) -> float:
        """The probability that a member has the larger score, of equal ones half: 0.5 is guessing."""
        alarms, hits = self.points
        return float(np.trapezoid(hits, alarms))

    def hits(self, alarms: float) -> float:
        """Return the largest share of members found at a share of false alarms of at most ``alarms``."""
        found, hits = self.points
        return float(hits[found <= alarms].max())

    @property
    def accuracy(self) -> float:
        """The largest share of right guesses where members and others are as many."""
        alarms, hits = self.points
        return float((0.5 + (hits - alarms) / 2.0).max())

    def to_json(self) -> dict[str, Any]:
        """Return its numbers ready for JSON."""
        found = {"auc": self.auc, "hits_at_0.001": self.hits(0.001), "hits_at_0.01": self.hits(0.01)}
        members = int(self.there.sum())
        return {**found, "accuracy": self.accuracy, "members": members, "others": len(self.there) - members}
