"""The charts of a report: their numbers, the table of these, and how they are drawn on axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fedray.report.legend import add_legend, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, PAPER = "#1b1f24", "#8a919a", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#008f68", "#b0508a", "#3d8fc4", "#b07a00", "#5a5fc0", "#6b7280")
"""Colours of series that people with any colour vision tell apart, after Okabe and Ito, darkened for white paper."""

_STROKES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
_MOST_NOTES, _MOST_TICKS, _FEW_TICKS = 12, 25, 10
_MOST_MARKS, _LONG = 30, 24


class Chart(Protocol):
    """A figure: what it shows, and how it is drawn."""

    @property
    def name(self) -> str:
        """The name of its files."""

    @property
    def caption(self) -> str:
        """A sentence on it, which readers who do not see it hear."""

    @property
    def inches(self) -> tuple[float, float]:
        """Its width and height; a column of a paper is 3.5 wide."""

    def draw(self, axes: Axes) -> None:
        """Draw it."""

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield its numbers, a head and lines, for a CSV file."""


@dataclass(frozen=True)
class Curve:
    """A curve, with an interval around it if there is one.

    Args:
        name: the words of the legend.
        x: places, rising.
        y: values; NaN: none.
        low: lower ends of the interval.
        high: upper ends.
        number: its colour and stroke go by it, so that a setting has one colour in all charts; default: its place.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    number: int | None = None


@dataclass(frozen=True)
class Curves:
    """Curves over one axis; where their points are few, each has a mark.

    Args:
        name: of its files.
        caption: a sentence on it.
        x: the words of the horizontal axis.
        y: those of the vertical one.
        curves: at most eight are told apart.
        whole: the horizontal axis counts, as rounds do.
        named: one curve alone has a legend, too: others of its kind are in other charts.
        limits: the least and the largest value there can be; what of an interval is beyond them is not drawn.
    """

    name: str
    caption: str
    x: str
    y: str
    curves: Sequence[Curve]
    whole: bool = True
    named: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)
    inches: tuple[float, float] = (3.5, 2.3)

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        for place, one in enumerate(self.curves):
            number = place if one.number is None else one.number
            colour = SERIES[number % len(SERIES)]
            # A straight line from one evaluation to a far one would pass for many of them.
            mark, size = "o" if len(one.x) <= _MOST_MARKS else None, 5.0 if len(one.x) < 2 else 2.4
            stroke = _STROKES[number % 8]
            axes.plot(one.x, one.y, color=colour, linestyle=stroke, marker=mark, markersize=size, label=one.name)
            if len(one.low):
                low, high = np.clip(one.low, *self.limits), np.clip(one.high, *self.limits)
                axes.fill_between(one.x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set(xlabel=self.x, ylabel=_on_lines(self.y))
        axes.grid(axis="y")
        if self.whole:
            _count(axes)
            if len(places := {x for one in self.curves for x in one.x}) == 1:
                (only,) = places
                axes.set_xlim(only - 1, only + 1)
        _room(axes, [value for one in self.curves for value in (*one.y, *one.low, *one.high)], self.limits)
        if len(self.curves) > 1 or self.named:
            add_legend(axes)

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield a line for each point of each curve."""
        yield ["curve", self.x, self.y, "low", "high"]
        for one in self.curves:
            for place, x in enumerate(one.x):
                ends = [one.low[place], one.high[place]] if len(one.low) else ["", ""]
                yield [one.name, x, one.y[place], *ends]


@dataclass(frozen=True)
class Matrix:
    """A map of numbers, the larger the darker; they stand in it where there is room.

    Args:
        name: of its files.
        caption: a sentence on it.
        rows: names, from the top.
        columns: names.
        values: the numbers, ``[rows, columns]``.
        shades: the depth of the colour, from 0 to 1, ``[rows, columns]``; default: values over the largest.
        x: the words of the horizontal axis.
        y: those of the vertical one.
    """

    name: str
    caption: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    shades: Sequence[Sequence[float]] | None = None
    x: str = ""
    y: str = ""

    @property
    def inches(self) -> tuple[float, float]:
        """Its width and height: few lines need less."""
        return 3.5, min(3.4, 1.1 + 0.24 * len(self.rows))

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        values = np.asarray(self.values, float)
        largest = np.nanmax(values) if values.size and not np.isnan(values).all() else 0.0
        shades = values / (largest or 1.0) if self.shades is None else np.asarray(self.shades, float)
        # Clear rather than white where there is little: it suits dark pages, too.
        image = np.zeros((*shades.shape, 4))
        image[..., :3] = [int(SERIES[0][at : at + 2], 16) / 255 for at in (1, 3, 5)]
        image[..., 3] = np.nan_to_num(np.clip(shades, 0, 1))
        axes.imshow(image, aspect="auto", interpolation="nearest", origin="upper")
        _ticks(axes, self.columns, across=True)
        _ticks(axes, self.rows, across=False)
        axes.set(xlabel=self.x, ylabel=self.y)
        if max(values.shape) <= _MOST_NOTES:
            for (row, column), value in np.ndenumerate(values):
                colour = PAPER if image[row, column, 3] > 0.5 else INK
                axes.text(column, row, f"{value:,.6g}", ha="center", va="center", color=colour, fontsize=6.5)

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield a line for each row."""
        yield [self.y, *self.columns]
        for name, line in zip(self.rows, self.values, strict=True):
            yield [name, *line]


@dataclass(frozen=True)
class Owners:
    """The owners of values, such as clients.

    Args:
        head: the words that tell one from another, such as ``client`` and ``seed``.
        each: of each series the owner of each value, as many words as the head has.
    """

    head: Sequence[str]
    each: Sequence[Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Points:
    """Values of many, such as clients: a point for each, sorted; or, of a few, in their order.

    Args:
        name: of its files.
        caption: a sentence on it.
        x: the words of the horizontal axis, which numbers them.
        y: those of the vertical one.
        series: names of series, each with its values.
        names: of the values, which are in their order in each series then; empty: the values are sorted.
        numbers: the colours of the series go by them; empty: by their places.
        named: one series alone has a legend, too.
        of: the owners of the values, for the table.
    """

    name: str
    caption: str
    x: str
    y: str
    series: Sequence[tuple[str, Sequence[float]]]
    names: Sequence[str] = ()
    numbers: Sequence[int] = ()
    named: bool = False
    of: Owners | None = None
    inches: tuple[float, float] = (3.5, 2.3)

    def draw(self, axes: Axes) -> None:
        """Draw it, with a line for the mean of each series."""
        width = 0.6 / max(1, len(self.series))
        for place, (name, values) in enumerate(self.series):
            number = self.numbers[place] if self.numbers else place
            colour, there = SERIES[number % len(SERIES)], np.asarray([one for one in values if not np.isnan(one)])
            if self.names:
                shift = (place - (len(self.series) - 1) / 2) * width
                x = np.flatnonzero(~np.isnan(np.asarray(values, float))) + shift
            else:
                there = np.sort(there)
                x = np.arange(1.0, len(there) + 1)
            axes.plot(
                x,
                there,
                linestyle="",
                marker="os^Dvx+*"[number % 8],
                markersize=max(1.5, min(4.0, 60 / max(1, len(there)))),
                color=colour,
                label=name,
            )
            if len(there):
                axes.axhline(float(there.mean()), color=colour, linewidth=0.8, linestyle=_STROKES[1])
        axes.set(xlabel=self.x, ylabel=_on_lines(self.y))
        axes.grid(axis="y")
        if self.names:
            _ticks(axes, self.names, across=True)
            axes.set_xlim(-0.5, len(self.names) - 0.5)
        else:
            _count(axes)
        _room(axes, [value for _, values in self.series for value in values])
        if len(self.series) > 1 or self.named:
            add_legend(axes)

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield a line for each value, in the order in which they are given."""
        own = Owners([self.x], [[(name,) for name in self.names]] * len(self.series)) if self.names else None
        yield from _lines(self.series, self.y, self.of or own)


@dataclass(frozen=True)
class Boxes:
    """The distribution of values of many, such as clients: a box for each series, one below the other.

    A box goes from the first to the third quartile, with a line at the median and a point at the mean; its whiskers end
    at the 10th and the 90th percentile, and the least and the largest value are marks.

    Args:
        name: of its files.
        caption: a sentence on it.
        x: the words of the axis of values.
        series: names of series, each with its values; NaN: none.
        numbers: the colours of the series go by them; empty: by their places.
        of: the owners of the values, for the table.
    """

    name: str
    caption: str
    x: str
    series: Sequence[tuple[str, Sequence[float]]]
    numbers: Sequence[int] = ()
    of: Owners | None = None

    @property
    def inches(self) -> tuple[float, float]:
        """Its width and height: few boxes need less."""
        return 3.5, 0.75 + 0.32 * max(1, len(self.series))

    def draw(self, axes: Axes) -> None:
        """Draw it, the first series at the top."""
        for place, (_, values) in enumerate(self.series):
            there = np.asarray([value for value in values if not math.isnan(value)])
            if not len(there):
                continue
            colour = SERIES[(self.numbers[place] if self.numbers else place) % len(SERIES)]
            low, first, middle, third, high = np.percentile(there, [10, 25, 50, 75, 90])
            axes.plot([low, high], [place, place], color=colour, linewidth=1.0)
            axes.barh(place, third - first, 0.5, first, color=colour, alpha=0.3, linewidth=0)
            axes.plot([middle, middle], [place - 0.25, place + 0.25], color=colour, linewidth=1.6)
            axes.plot([there.min(), there.max()], [place, place], color=colour, linestyle="", marker="|", markersize=4)
            axes.plot([there.mean()], [place], color=INK, linestyle="", marker="o", markersize=3)
        axes.set_yticks(range(len(self.series)), [wrapped(name, 23) for name, _ in self.series])
        axes.set_ylim(len(self.series) - 0.5, -0.5)
        axes.set(xlabel=self.x)
        axes.grid(axis="x")

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield a line for each value, in the order in which they are given."""
        yield from _lines(self.series, self.x, self.of)


@dataclass(frozen=True)
class Bars:
    """Bars, one for each group and series.

    Args:
        name: of its files.
        caption: a sentence on it.
        groups: names of the groups, along the horizontal axis.
        series: names of series, each with its values by group; NaN: none.
        x: the words of the horizontal axis.
        y: those of the vertical one.
    """

    name: str
    caption: str
    groups: Sequence[str]
    series: Sequence[tuple[str, Sequence[float]]]
    x: str = ""
    y: str = ""
    inches: tuple[float, float] = (3.5, 2.3)

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        places, width = np.arange(len(self.groups)), 0.8 / max(1, len(self.series))
        for number, (name, values) in enumerate(self.series):
            shift = (number - (len(self.series) - 1) / 2) * width
            hatch = ("", "//", "..", "xx")[number // len(SERIES) % 4]
            axes.bar(places + shift, values, width * 0.92, color=SERIES[number % 8], hatch=hatch, label=name)
        _ticks(axes, self.groups, across=True)
        axes.set(xlabel=self.x, ylabel=self.y)
        axes.grid(axis="y")
        if len(self.series) > 1:
            add_legend(axes)

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield a line for each group."""
        yield [self.x, *(name for name, _ in self.series)]
        for place, group in enumerate(self.groups):
            yield [group, *(values[place] for _, values in self.series)]


def _lines(series: Sequence[tuple[str, Sequence[float]]], what: str, of: Owners | None) -> Iterator[Sequence[Any]]:
    """Yield a head and a line for each value of some series, with its owner if that is known."""
    yield ["series", *(of.head if of else ()), what]
    for number, (name, values) in enumerate(series):
        for place, value in enumerate(values):
            yield [name, *(of.each[number][place] if of else ()), value]


def _room(axes: Axes, values: Sequence[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> None:
    """Give an axis on which all values are one and the same its room: from 0, or all that there can be."""
    there = [value for value in values if math.isfinite(value)]
    if not there or min(there) < max(there):
        return
    value = there[0]
    room = limits if all(map(math.isfinite, limits)) else (min(0.0, 2 * value), max(0.0, 2 * value) if value else 1.0)
    spare = 0.05 * (room[1] - room[0])
    axes.set_ylim(room[0] - (spare if value <= room[0] else 0.0), room[1] + (spare if value >= room[1] else 0.0))


def _count(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True))


def _ticks(axes: Axes, names: Sequence[str], across: bool) -> None:
    """Name the ticks, all where there is room, else a few of them."""
    step = 1 if len(names) <= _MOST_TICKS else -(-len(names) // _FEW_TICKS)
    places = list(range(0, len(names), step))
    shown = [_short(names[place]) for place in places]
    if across:
        steep = sum(map(len, shown)) > 45
        axes.set_xticks(places, shown, rotation=45 if steep else 0, ha="right" if steep else "center")
        if steep:
            axes.tick_params(axis="x", pad=1)
    else:
        axes.set_yticks(places, shown)


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _on_lines(name: str) -> str:
    """Return a name with dots on two lines where one, along a short axis, has no room for it."""
    first, dot, rest = name.partition(".")
    return f"{first}.\n{rest}" if dot and len(name) > _LONG else name
