"""The intervals of a single run: of shares of the test set, of all clients together, and of each client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from fedray.config.registry import bind_part, made
from fedray.core.errors import ConfigError
from fedray.core.record import VIEWS
from fedray.metrics import Metric, metrics
from fedray.metrics.intervals import ABOUT, Interval, intervals, of_classes, shown, usual
from fedray.report.blocks import Block, Cell, Table
from fedray.report.clients import FREQUENT, frequent_words
from fedray.report.progress import MOST_CURVES
from fedray.report.told import Setting, Told
from fedray.rundir.client_table import metrics_in, newest_part
from fedray.rundir.each_client import SUPPORT, most_frequent

MOST_CLIENTS = 50
"""The most clients that have intervals of their own."""

_ALWAYS = f"{FREQUENT}: with its share of the rows, which is the accuracy of a model that always says it."

Line = tuple[str, int, str, Mapping[str, Interval]]
"""The name of a line, the number of its rows, the class that most of them have, and the intervals by metric."""


def interval_blocks(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield the tables of settings with one run each; of several seeds the means have intervals of their own."""
    for one in settings[:MOST_CURVES]:
        if len(one.runs) == 1 and (lines := list(_lines(one.runs[0]))):
            names = list(dict.fromkeys(name for *_, found in lines for name in found))
            rows: list[list[Cell]] = [
                [who, count, often, *(shown(found[name]) if name in found else "" for name in names)]
                for who, count, often, found in lines
            ]
            folded = f"95 % intervals: {one.label}" if len(settings) > 1 else ""
            yield Table(["of", "rows", FREQUENT, *names], rows, f"{ABOUT} {_ALWAYS}", folded)


def chosen_in(run: Told) -> list[Metric]:
    """Return the metrics of fedray that a run's config names; where it names none, those of two classes."""
    said = (yaml.safe_load(run.text) or {}).get("metrics")
    if said is None:
        return usual()
    found = []
    for part in said:
        name = part.get("name") if isinstance(part, Mapping) else part
        if str(name) in metrics:
            try:
                found.append(made(bind_part(metrics, part, "metrics")))
            except ConfigError:  # of an earlier or a later fedray
                continue
    return found


def _lines(run: Told) -> Iterator[Line]:
    chosen = chosen_in(run)
    table = run.table("test", SUPPORT)
    if table:
        yield from _line("test set", chosen, run.last("test"), table["classes"], table["counts"], table["examples"])
    for view in VIEWS:
        yield from _clients(run, view, chosen)


def _clients(run: Told, view: str, chosen: Sequence[Metric]) -> Iterator[Line]:
    """Yield the lines of the clients in a view, all of them together first."""
    part = newest_part(run.folder)
    rows: list[dict[str, Any]] = []
    if part is not None and SUPPORT in part.column_names:
        rows = [row for row in part.to_pylist() if row["view"] == view and row[SUPPORT]]
    spread = run.last(VIEWS[view])
    if not rows or not spread:
        return
    classes = [cell["class"] for cell in max((row[SUPPORT] for row in rows), key=len)]
    counts = [[cell["count"] for cell in row[SUPPORT]] for row in rows]
    whole = [sum(own[k] for own in counts if k < len(own)) for k in range(len(classes))]
    means = {name: one.get("mean") for name, one in spread.items()}
    yield from _line(f"{VIEWS[view]}: all", chosen, means, classes, whole, sum(row["examples"] for row in rows))
    if len(rows) > MOST_CLIENTS:
        return
    names = metrics_in(part)
    for row, own in zip(rows, counts, strict=True):
        numbers, examples = {name: row[name] for name in names}, row["examples"]
        yield from _line(f"{VIEWS[view]}: {row['client']}", chosen, numbers, classes, own, examples)


def _line(
    who: str,
    chosen: Sequence[Metric],
    numbers: Mapping[str, Any],
    classes: Sequence[str],
    counts: Sequence[int],
    examples: int,
) -> Iterator[Line]:
    found = intervals(of_classes(chosen, [str(name) for name in classes]), numbers, counts, examples)
    if found:
        yield who, examples, frequent_words(most_frequent(classes, counts)), found
