"""Figures, what they should be, and how they are shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.table import Table


@dataclass(frozen=True)
class Spread:
    """Median and range of some values."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, min=1.0, max=3.0)
        """
        return cls(statistics.median(values), min(values), max(values))


PAIRED = 6
"""The fewest pairs of runs whose median has an interval that holds with 95 %."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of the median that hold with at least 95 %, whatever the values' distribution.

    They are two of the values, by the sign test; fewer than ``PAIRED`` values give their range, which holds with less.

    >>> interval(range(30))
    (9, 20)
    """
    ordered, count = sorted(values), len(values)
    below = 0  # values that may lie outside on each side
    while 2 * sum(math.comb(count, few) for few in range(below + 1)) <= 0.05 * 2**count:
        below += 1
    outside = max(below - 1, 0)
    return ordered[outside], ordered[count - 1 - outside]


@dataclass(frozen=True)
class Goal:
    """The goal of a figure.

    Args:
        bound: the last value that is good.
        of: what is judged: fedray's own ``value``, or its ``ratio`` to the bare loop.
        at_least: larger is better.
    """

    bound: float
    of: Literal["value", "ratio"] = "value"
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Return whether ``value`` is good."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        ratio = f"{self.bound:.2f}" if round(self.bound, 2) == self.bound else f"{self.bound:g}"
        return f"{sign} {ratio} x bare" if self.of == "ratio" else f"{sign} {shown(self.bound)}"


@dataclass(frozen=True)
class Figure:
    """One line of the result.

    Args:
        name: what was measured.
        unit: of its values.
        goal: what it should be.
        fedray: values, a list for each run.
        bare: the bare loop's, run by run beside fedray's; empty if there is nothing to compare with.
        note: what else a reader wants to know.
        error: why there are no values.
        unjudged: why the goal does not hold on this machine; empty: it does.
        best: the median of the fastest bare loop, judged by nobody; None: it is the bare one.
    """

    name: str
    unit: str
    goal: Goal
    fedray: list[list[float]] = field(default_factory=list)
    bare: list[list[float]] = field(default_factory=list)
    note: str = ""
    error: str | None = None
    unjudged: str = ""
    best: float | None = None

    def spread(self, side: Literal["fedray", "bare"]) -> Spread | None:
        """Over all values of all runs; None without any."""
        values = [value for run in getattr(self, side) for value in run]
        return Spread.of(values) if values else None

    @property
    def pairs(self) -> list[float]:
        """Fedray to bare of each pair of runs made next to each other, by the medians of both; empty without any."""
        if not self.bare:
            return []
        return [
            statistics.median(ours) / statistics.median(theirs)
            for ours, theirs in zip(self.fedray, self.bare, strict=True)
        ]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The 95 % interval of the median of the pairs; None where they are too few to have one."""
        return interval(self.pairs) if len(self.pairs) >= PAIRED else None

    @property
    def ratio(self) -> Spread | None:
        """Fedray to bare: the median of the pairs, or, where they have no interval, the ratio of the medians.

        Least and largest are those of the pairs.
        """
        fedray, bare, pairs = self.spread("fedray"), self.spread("bare"), self.pairs
        if fedray is None or bare is None:
            return None
        whole = fedray.median / bare.median if self.bounds is None else statistics.median(pairs)
        return Spread(whole, min(pairs), max(pairs))

    @property
    def verdict(self) -> Literal["ok", "missed", "failed", "not judged"]:
        """The verdict: the goal is met, missed, or does not hold here; ``failed`` if it was not measured."""
        judged = self.ratio if self.goal.of == "ratio" else self.spread("fedray")
        if self.error is not None or judged is None:
            return "failed"
        if self.unjudged:
            return "not judged"
        return "ok" if self.goal.met(judged.median) else "missed"

    def to_json(self) -> dict[str, Any]:
        """Everything, and every value."""
        spreads = {side: self.spread(side) for side in ("fedray", "bare")}
        spreads["ratio"] = self.ratio
        return {
            "name": self.name,
            "unit": self.unit,
            "target": str(self.goal),
            "verdict": self.verdict,
            **{name: asdict(spread) if spread else None for name, spread in spreads.items()},
            "best_bare": self.best,
            "interval": self.bounds,
            "runs": {"fedray": self.fedray, "bare": self.bare},
            "note": self.note,
            "error": self.error,
        }


def shown(value: float) -> str:
    """Three significant digits, thousands apart.

    >>> [shown(value) for value in (0.01234, 3.456, 98.76, 123456.0)]
    ['0.0123', '3.46', '98.8', '123,456']
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.3g}"


def columns(figure: Figure) -> list[str]:
    """A figure's cells: what, bare, best bare, fedray, ratio, target, verdict."""
    bare, ours = (spread and shown(spread.median) for spread in (figure.spread("bare"), figure.spread("fedray")))
    ratio, bounds = figure.ratio, figure.bounds
    between = f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""
    return [
        f"{figure.name} ({figure.unit})",
        bare or "-",
        "-" if figure.best is None else shown(figure.best),
        ours or "-",
        f"{ratio.median:.2f}{between}" if ratio else "-",
        str(figure.goal),
        figure.verdict,
    ]


HEADER = ["what", "bare", "best bare", "fedray", "ratio", "target", ""]


def table(figures: Sequence[Figure], title: str) -> Table:
    """For the terminal."""
    drawn = Table(title=title, title_justify="left")
    for name in HEADER:
        drawn.add_column(name, justify="right" if name in ("bare", "best bare", "fedray", "ratio") else "left")
    style = {"ok": "green", "missed": "yellow", "failed": "red", "not judged": "dim"}
    for figure in figures:
        *cells, verdict = columns(figure)
        drawn.add_row(*cells, f"[{style[verdict]}]{verdict}[/]")
    return drawn


def markdown(figures: Sequence[Figure]) -> str:
    """Two tables, what is judged and the ranges, and the notes."""
    lines = markdown_rows(HEADER, [columns(figure) for figure in figures])
    lines += ["", "Least to largest; of the ratio, over pairs of runs made next to each other:", ""]
    lines += markdown_rows(
        ["what", "bare", "fedray", "ratio", "runs", "values"],
        [
            [
                f"{figure.name} ({figure.unit})",
                *(_range(spread) for spread in (figure.spread("bare"), figure.spread("fedray"), figure.ratio)),
                str(len(figure.fedray)),
                str(sum(map(len, figure.fedray))),
            ]
            for figure in figures
        ],
    )
    said = [(figure.name, figure.error or figure.note) for figure in figures]
    lines += ["", *(f"- **{name}**: {' '.join(text.split())}" for name, text in said if text)]
    return "\n".join(lines)


def markdown_rows(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table.

    >>> markdown_rows(["a", "b"], [["1", "2 | 3"]])
    ['| a | b |', '| --- | --- |', '| 1 | 2 \\\\| 3 |']
    """
    cells = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def _range(spread: Spread | None) -> str:
    return f"{shown(spread.min)} to {shown(spread.max)}" if spread else "-"
