"""Training alone: the baseline of all personal models."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.regions import Entry, Region


@algorithms.register("local_only")
@dataclass(frozen=True)
class LocalOnly(Algorithm):
    """Each client alone: it trains a model of its own on its own data, and nothing leaves it.

    All clients begin with the run's first model, and in each round in which they are drawn go on with their own.  On
    data whose clients have few classes each it is hard to beat (Collins et al., arXiv:2102.07078, tables 1 and 2).

    >>> LocalOnly()
    LocalOnly(weight='auto')
    """

    def region(self, entry: Entry) -> Region:
        """Return ``personal`` for everything."""
        return "personal"
