"""A report on data as a page, and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from fedray.core.errors import MOST, counted, listed
from fedray.core.terminal import Grid
from fedray.data.picture import chosen_clients, label_picture
from fedray.report.blocks import Block, Cell, Facts, Figures, Section, Table, Words
from fedray.report.charts import Bars, Matrix, Points
from fedray.report.columns import ColumnReport
from fedray.report.data_doubts import doubts
from fedray.report.drift import LARGE, MODERATE
from fedray.report.of_data import HIGH, LOW, MEDIAN, DataReport, worded
from fedray.report.page import render

_MOST, _TOP = 40, 12
"""The most groups that stand side by side in a figure, and columns of a table of columns."""

TOLD = "Of tables this shows counts, quantiles of many rows, and names of categories and classes; no row left its site."


def data_page(report: DataReport) -> str:
    """Return a report on data as one HTML page.

    Raises:
        ConfigError: for want of a package, see :func:`fedray.report.check_packages`.
    """
    from fedray import __version__

    sections = [
        Section("Warnings", _warnings(report)),
        Section("Who has how much", _sizes(report)),
        Section("Labels", _labels(report)),
        Section("Missing values", _missing(report)),
        Section("Drift", _drift(report)),
        Section("Columns", _columns(report)),
    ]
    return render(f"Data of {report.name}", sections, lead=_lead(report), foot=f"fedray {__version__}. {TOLD}")


def _lead(report: DataReport) -> str:
    who = counted(len(report.clients or report.sites), "client" if report.clients else "site")
    rows = sum(report.sizes or report.rows)
    said = f"{who}, {rows:,} rows" + (" to train on" if report.sizes else "")
    if report.columns:
        said += f", {counted(len(report.columns), 'column')}"
    if report.target is not None:
        said += f", target {report.target.name}"
    return said + (f"; an example is {report.example}." if report.example else ".")


def _warnings(report: DataReport) -> list[Block]:
    found = doubts(report)
    if not found:
        return [Words("Nothing looks like a mistake.")]
    return [Words(words, warns=True) for words in found]


def _sizes(report: DataReport) -> list[Block]:
    facts = [("held out, or clients' own test sets", f"{report.held:,} rows")] if report.held else []
    facts += [("central test set", f"{report.test:,} rows")] if report.test else []
    blocks: list[Block] = [Facts(facts)] if facts else []
    sizes = list(report.sizes or report.rows)
    if len(sizes) > _MOST:
        told = "Training rows of each client, sorted, and their mean."
        points = [("rows", [float(size) for size in sizes])]
        return [*blocks, Figures([Points("sizes", told, "client", "training rows", points)])]
    return [*blocks, _groups(report)]


def _groups(report: DataReport) -> Table:
    """Return the table of clients: rows, and those of each class where these are few."""
    few = report.counts.size and len(report.classes) <= 12
    head = ["client" if report.clients else "site", "rows", *(report.classes if few else ())]
    head += ["tokens", "targets", "median length", "longest"] if report.lengths else []
    sizes, skew = report.sizes or report.rows, report.skew
    rows: list[list[Cell]] = []
    for number, (group, size) in enumerate(zip(report.groups, sizes, strict=True)):
        line: list[Cell] = [group, int(size)]
        if few:
            line += [int(count) for count in report.counts[number]]
        if report.lengths:
            one = report.lengths[number]
            line += [one.tokens, one.targets, one.median, one.longest]
        rows.append([*line, *([skew[number]] if skew else [])])
    caption = "Distance: of the mix of classes from that of all, 0 to 1 (total variation)." if skew else ""
    return Table([*head, *(["distance"] if skew else [])], rows, caption)


def _labels(report: DataReport) -> list[Block]:
    if not report.counts.size:
        return []
    shown = chosen_clients(len(report.groups), _MOST)
    counts = report.counts[shown]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    groups = [report.groups[int(index)] for index in shown]
    part = "" if len(shown) == len(report.groups) else f" ({len(shown)} of {len(report.groups):,}, evenly picked)"
    told = f"Share of each class in the rows of each client, in %{part}."
    if len(report.classes) <= 4 and len(groups) <= 12:
        series = [(name, (100 * shares[:, k]).tolist()) for k, name in enumerate(report.classes)]
        return [Figures([Bars("labels", told, groups, series, y="% of rows")])]
    values = np.round(100 * shares).tolist()
    return [Figures([Matrix("labels", told, groups, list(report.classes), values, y="client", x="class")])]


def _missing(report: DataReport) -> list[Block]:
    gaps = [one for one in report.columns if one.missing]
    if not gaps:
        return [Words("No value is missing.")] if report.columns else []
    rows = np.maximum(np.array(report.rows), 1)
    values = [np.round(100 * np.array([at.missing for at in one.at]) / rows).tolist() for one in gaps]
    told = "Missing values of each column at each site, in %."
    shades = [[value / 100 for value in line] for line in values]
    return [Figures([Matrix("missing", told, [one.name for one in gaps], list(report.sites), values, shades)])]


def _drift(report: DataReport) -> list[Block]:
    known = [one for one in [*report.columns, *filter(None, [report.target])] if one.drift]
    if len(report.sites) < 2 or not known:
        return []
    known.sort(key=lambda one: -max((d.psi for d in one.drift if np.isfinite(d.psi)), default=0.0))
    top = known[:_TOP]
    values = [[round(one.psi, 2) for one in column.drift] for column in top]
    which = "each column" if len(top) == len(known) else f"the {len(top)} columns that differ most of {len(known)}"
    told = (
        f"Population stability index of {which}, one site against all others: from {MODERATE} on moderate, from "
        f"{LARGE} on large. Small sites reach some by chance, which the table has."
    )
    shades = [[min(1.0, value) for value in line] for line in values]
    lines: list[list[Cell]] = [
        [column.name, site, one.psi, one.chance, "" if one.psi <= one.chance else "beyond chance"]
        for column in known
        for site, one in zip(report.sites, column.drift, strict=True)
        if np.isfinite(one.psi)
    ]
    head = ["column", "site", "PSI", "1 % by chance", ""]
    return [
        Figures([Matrix("drift", told, [one.name for one in top], list(report.sites), values, shades)]),
        Table(head, lines, "PSI, and the value that chance alone passes in one case of a hundred.", "In numbers"),
    ]


def _columns(report: DataReport) -> list[Block]:
    if not report.columns:
        return []
    every = [*report.columns, *filter(None, [report.target])]
    rows: list[list[Cell]] = [
        [one.name, _kind(one), *(_at(one, site) for site in range(len(report.sites)))] for one in every
    ]
    caption = "Of numbers median (5 % to 95 %), of categories the rows of each."
    return [Table(["column", "kind", *report.sites], rows, caption)]


def _kind(column: ColumnReport) -> str:
    return f"{column.kind}, target" if column.target else column.kind


def _at(column: ColumnReport, site: int) -> str:
    """Return a column at a site in words."""
    one = column.at[site]
    if one.kind in ("absent", "empty"):
        return "no such column" if one.kind == "absent" else "no value"
    if column.categories and column.counts.size:
        names = [*column.categories, "others"]
        counts = {name: n for name, n in zip(names, column.counts[site].tolist(), strict=True) if n}
        if len(counts) > MOST:
            counts = dict(sorted(counts.items(), key=lambda one: -one[1]))
        return listed(f"{name} {n:,}" for name, n in counts.items())
    if one.quantiles is None:
        return f"{one.different:,} different"
    median, low, high = (worded(one.kind, one.quantiles[level]) for level in (MEDIAN, LOW, HIGH))
    return f"{median} ({low} to {high})"


def shown(report: DataReport) -> RenderableType:
    """Return a report on data as tables for a terminal."""
    return Group(*_shown(report))


def _shown(report: DataReport) -> Iterator[RenderableType]:
    yield Text(_lead(report))
    yield Text()
    if len(report.groups) <= _MOST:
        table = _groups(report)
        yield Grid(table.head, table.text())
    if report.counts.size and (len(report.groups) > _MOST or len(report.classes) > 12):
        yield Text(label_picture(report.counts, report.classes, clients=report.groups))
    if report.columns:
        yield Grid(
            ["column", "kind", "missing", "drift (PSI)", *report.sites], [_line(one, report) for one in report.columns]
        )
        yield Text("drift: the largest of a site against all others; median (5 % to 95 %), or rows of each category")
        yield Text()
    found = doubts(report)
    for words in found:
        yield Text(f"! {words}", style="yellow")
    if not found:
        yield Text("nothing looks like a mistake")


def _line(column: ColumnReport, report: DataReport) -> list[str]:
    known = [(one.psi, site) for one, site in zip(column.drift, report.sites, strict=False) if np.isfinite(one.psi)]
    worst = max(known, default=None)
    share = column.missing / max(1, sum(report.rows))
    drift = "" if worst is None or len(known) < 2 else f"{worst[0]:.2f} {worst[1]}"
    return [
        column.name,
        column.kind,
        f"{share:.0%}" if column.missing else "",
        drift,
        *(_at(column, site) for site in range(len(report.sites))),
    ]
