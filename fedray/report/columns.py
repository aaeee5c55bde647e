"""A column at all sites, as a report on data has it, and how far sites differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedray.core.messages import Ints
from fedray.data.encoding.overview import LEVELS, Column
from fedray.report.drift import by_chance, psi


@dataclass(frozen=True)
class Drift:
    """The difference of a column at one site from all others.

    Args:
        psi: the population stability index; NaN: there is nothing to compare.
        chance: the index that chance alone passes in one case of a hundred.
    """

    psi: float
    chance: float


@dataclass(frozen=True)
class ColumnReport:
    """A column at all sites.

    Args:
        name: its name.
        at: its outline at each site, in their order.
        drift: at each site; empty: it is neither numbers nor categories everywhere.
        categories: their names; empty: it holds none.
        counts: the rows of each category at each site, and last those of others, ``[sites, k + 1]``.
        target: it is what is predicted.
        words: the meaning it was given, of arrays.
    """

    name: str
    at: Sequence[Column]
    drift: Sequence[Drift] = ()
    categories: Sequence[str] = ()
    counts: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    target: bool = False
    words: str = ""

    @property
    def missing(self) -> int:
        """The missing values of all sites."""
        return sum(one.missing for one in self.at)

    @property
    def kind(self) -> str:
        """The kind in words: ``numbers``, ``categories``, ``text``, ``empty``, what sites differ in, or ``words``."""
        if self.words:
            return self.words
        kinds = {one.kind for one in self.at} - {"absent", "empty"}
        if self.categories:
            return "categories"
        return " and ".join(sorted(kinds)) or "empty"


def edges_of(at: Sequence[Column]) -> list[float]:
    """Return the ends of bins for a column: about the deciles of all sites together, from those of each."""
    told = [one.quantiles for one in at if one.quantiles is not None]
    if not told:
        return []
    deciles = [number for number, level in enumerate(LEVELS) if level not in (0.05, 0.25, 0.75, 0.95)]
    every = np.sort(np.concatenate([np.asarray(one)[deciles] for one in told]))
    ends: list[float] = np.unique(np.quantile(every, np.linspace(0.1, 0.9, 9), method="nearest")).tolist()
    return ends


def drifts(counts: Ints) -> list[Drift]:
    """Return the drift of each site from all others, by its rows in each bin ``[sites, k]``."""
    whole = counts.sum(axis=0)
    return [Drift(psi(own, whole - own), by_chance(own, whole - own)) for own in counts]
