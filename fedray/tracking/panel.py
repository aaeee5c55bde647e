"""The picture of a run in a notebook: how far it is, its curves, its numbers, as HTML without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from fedray.core.record import VIEWS, RoundRecord, headline

_BLUE, _ORANGE = "#3d8fc4", "#d9730d"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _FOOT = 250, 160, 42, 10, 24, 22
_MOST_POINTS = 400

Point = tuple[int, float]


def panel(
    title: str,
    done: int,
    rounds: int,
    words: str,
    records: Sequence[RoundRecord],
    rows: Iterable[tuple[str, str]] = (),
    notes: Iterable[str] = (),
) -> str:
    """Return the picture of a run: a bar of its rounds, words, curves, and a table.

    Args:
        title: the name of the run.
        done: the rounds that are done.
        rounds: all rounds.
        words: a line on how it stands.
        records: those that curves are drawn of.
        rows: names and what is said of each.
        notes: lines below.
    """
    bar = f'<progress value="{done}" max="{max(1, rounds)}" style="width:220px;vertical-align:middle"></progress>'
    head = f"<div><b>{escape(title)}</b> &nbsp; {bar} &nbsp; round {done:,} of {rounds:,}</div>"
    said = f'<div style="opacity:.75">{escape(words)}</div>' if words else ""
    style = "text-align:left;padding:1px 12px 1px 0;border:0;background:none;font-size:13px"
    lines = "".join(
        f'<tr style="background:none"><td style="{style};opacity:.75">{escape(name)}</td>'
        f'<td style="{style}">{escape(text)}</td></tr>'
        for name, text in rows
    )
    table = f'<table style="border:0;margin:4px 0">{lines}</table>' if lines else ""
    drawn = f'<div style="margin:4px 0">{curves(records)}</div>'
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f'<div style="font-family:sans-serif;font-size:13px;line-height:1.5">{head}{said}{drawn}{table}{below}</div>'


def curves(records: Sequence[RoundRecord]) -> str:
    """Return the curves of a run, as SVG: the training loss, and the metric that stands for all.

    >>> curves([RoundRecord(1, train={"loss": 0.7}), RoundRecord(2, train={"loss": 0.5})]).count("<svg")
    1
    """
    loss = _series(records, lambda record: record.train.get("loss"))
    charts = [_chart("train.loss", loss, _BLUE)] if loss else []
    for section in ("test", *VIEWS.values()):
        names = dict.fromkeys(name for record in records for name in getattr(record, section))
        if names:
            metric = headline(list(names))
            told = _series(records, lambda record, s=section, m=metric: _value(getattr(record, s).get(m)))  # type: ignore[misc]
            charts.append(_chart(f"{section}.{metric}", told, _ORANGE))
    return "".join(charts)


def _value(number: float | dict[str, float] | None) -> float | None:
    return number.get("mean") if isinstance(number, dict) else number


def _series(records: Sequence[RoundRecord], of: Callable[[RoundRecord], float | None]) -> list[Point]:
    """Return the finite values by round, thinned out to what a screen can show."""
    told = ((record.round, of(record)) for record in records)
    found = [(round, value) for round, value in told if value is not None and math.isfinite(value)]
    step = -(-len(found) // _MOST_POINTS) if found else 1
    kept = found[::step]
    return kept if not found or kept[-1] == found[-1] else [*kept, found[-1]]


def _chart(title: str, points: Sequence[Point], colour: str) -> str:
    first, last = points[0][0], points[-1][0]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    if low == high:  # from 0, so that what stays as it is looks so
        low, high = min(0.0, 2 * low), max(0.0, 2 * high) or 1.0
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)

    def place(round: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((round - first) / max(1, last - first))
        y = _TOP + (_HEIGHT - _TOP - _FOOT) * (high - value) / (high - low)
        return x, y

    grid, names = [], []
    for tick in _ticks(low, high):
        _, y = place(first, tick)
        grid.append(f"M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}")
        names.append(f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    foot = _HEIGHT - 6
    names += [
        f'<text x="{_LEFT}" y="{foot}">{first:,}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{foot}" text-anchor="end">round {last:,}</text>',
        f'<text x="{_LEFT}" y="14" font-weight="bold">{escape(title)}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="14" text-anchor="end">{points[-1][1]:.4g}</text>',
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    x, y = place(*points[-1])
    return (
        f'<svg role="img" aria-label="{escape(title)}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:100%" fill="currentColor" font-size="11" '
        f'font-family="sans-serif"><path d="{"".join(grid)}" stroke="currentColor" stroke-opacity=".2" fill="none"/>'
        f'{"".join(names)}<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-linejoin="round"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/></svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers within a range.

    >>> _ticks(0.03, 0.97), _ticks(-5.0, 900.0)
    ([0.2, 0.4, 0.6, 0.8], [0.0, 200.0, 400.0, 600.0, 800.0])
    """
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = size * next(nice for nice in (1, 2, 5, 10) if size * nice >= raw * 0.999)
    first = math.ceil(low / step)
    return [round(number * step, 12) for number in range(first, math.floor(high / step) + 1)]
