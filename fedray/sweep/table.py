"""The table of a sweep: means over seeds, with their uncertainty."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fedray.core.record import headline
from fedray.core.terminal import Grid, fitted, plain
from fedray.rundir import durable
from fedray.sweep.grid import SEED, Cell

TABLE = "table"
_GIVEN = ("train.lr",)
CONFIDENCE = 0.95

NOT_MEASURED = "-"
"""The sign for a metric that runs of a setting do not have, and others do."""

NOT_VARIED = "as config"
"""The words for a key that the sweep of a setting did not vary, and others in the folder did."""

UNTESTED = (
    "not measured: test is of a whole model on the server, clients_personal of models of the clients' own, and not "
    "every algorithm has both"
)
"""The words for that sign."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds.

    Args:
        mean: of the values; None if one of them is not finite.
        half_width: the 95 % confidence interval is ``mean`` plus or minus this (Student t: the values of different
            seeds are taken as independent draws of one normal distribution); None for less than two values.
        values: by seed.
    """

    mean: float | None
    half_width: float | None
    values: dict[str, float | None]


@dataclass(frozen=True)
class Row:
    """One setting: all runs that differ in their seed alone.

    Args:
        setting: key to value.
        runs: finished.
        failed: ended with an error.
        missing: neither: not begun, under way, stopped, or killed or refused before it could say so.
        wanted: all of them.
        metrics: by name, ``test.accuracy``.
        paused: the round after which its runs paused, as better settings went on; None: they did not.
        earlier: those of them that sweeps before in the folder have run, and the last one does not ask for.
    """

    setting: dict[str, str]
    runs: int
    failed: int
    missing: int
    wanted: int
    metrics: dict[str, Interval]
    paused: int | None = None
    earlier: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a cell.

    Args:
        cell: the cell.
        metrics: the final ones by name (None: not a finite number), if it is finished.
        failed: it ended with an error.
        paused: the round after which it paused, as better ones went on; None: it did not.
        earlier: a sweep before has run it, and the last one does not ask for it.
    """

    cell: Cell
    metrics: Mapping[str, float | None] | None = None
    failed: bool = False
    paused: int | None = None
    earlier: bool = False


def tabulate(outcomes: Sequence[Outcome]) -> list[Row]:
    """Make one row for each setting, in the order of the cells."""
    settings: dict[tuple[tuple[str, str], ...], list[Outcome]] = {}
    for outcome in outcomes:
        settings.setdefault(outcome.cell.setting, []).append(outcome)
    return [_row(dict(setting), members) for setting, members in settings.items()]


def _row(setting: dict[str, str], members: Sequence[Outcome]) -> Row:
    finished = [(dict(one.cell.settings).get(SEED, ""), one.metrics) for one in members if one.metrics is not None]
    names = dict.fromkeys(name for _, metrics in finished for name in metrics)
    intervals = {name: interval({s: metrics[name] for s, metrics in finished if name in metrics}) for name in names}
    failed = sum(one.failed for one in members)
    paused = min((one.paused for one in members if one.paused is not None), default=None)
    missing, earlier = len(members) - len(finished) - failed, sum(one.earlier for one in members)
    return Row(setting, len(finished), failed, missing, len(members), intervals, paused, earlier)


def interval(values: Mapping[str, float | None]) -> Interval:
    """Return mean and confidence interval of values by seed."""
    finite = [value for value in values.values() if value is not None and math.isfinite(value)]
    if not finite or len(finite) < len(values):
        return Interval(None, None, dict(values))
    # By fractions, so that values which are all the same have themselves as their mean, and no spread.
    mean, freedom = statistics.mean(finite), len(finite) - 1
    if not freedom:
        return Interval(mean, None, dict(values))
    deviation = statistics.stdev(finite) / math.sqrt(len(finite))
    half_width = student_quantile(0.5 + CONFIDENCE / 2, freedom) * deviation
    return Interval(mean, half_width, dict(values))


def student_quantile(probability: float, freedom: int) -> float:
    """Return the value that Student's t stays below with a probability in (0, 1).

    >>> round(student_quantile(0.975, 2), 3), round(student_quantile(0.975, 9), 3)
    (4.303, 2.262)
    """
    # Half a second: only for a table, and not for the grid of a sweep.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def in_words(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Write the table for people: its head, and a line for each setting, without keys that have one value only."""
    every = dict.fromkeys(key for row in rows for key in row.setting)
    keys = [key for key in every if len({row.setting.get(key) for row in rows}) > 1]
    metrics = metrics_of(rows)
    lines = []
    for row in rows:
        lacking = NOT_MEASURED if row.runs else ""
        numbers = (_words(row.metrics[name]) if name in row.metrics else lacking for name in metrics)
        lines.append([*(row.setting.get(key, NOT_VARIED) for key in keys), _runs(row), *numbers])
    return [*keys, "runs", *metrics], lines


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that a table for people has: what training was given, such as its learning rate, is none."""
    return [name for name in dict.fromkeys(name for row in rows for name in row.metrics) if name not in _GIVEN]


def fitting(rows: Sequence[Row], width: int) -> tuple[Grid, list[str]]:
    """Return the table with as many metrics as stand side by side in a width, and the names of the others.

    The metric that stands for all goes first, that of the test set before that of clients, then losses, then the rest;
    those of training are last.

    Args:
        rows: the settings.
        width: in characters.
    """
    metrics = metrics_of(rows)
    sections: dict[str, list[str]] = {}
    for name in metrics:
        section, _, metric = name.partition(".")
        sections.setdefault(section, []).append(metric)
    first = [f"{section}.{headline(names)}" for section, names in sections.items()]
    order = sorted(metrics, key=lambda name: (name.startswith("train."), name not in first, not name.endswith(".loss")))
    return fitted(Grid(*in_words(rows)), order, width)


def _runs(row: Row) -> str:
    lacking = [f"{count} {word}" for word, count in (("failed", row.failed), ("missing", row.missing)) if count]
    paused = [] if row.paused is None else [f"to round {row.paused}"]
    earlier = "earlier" if row.earlier == row.wanted else f"{row.earlier} earlier" if row.earlier else ""
    return ", ".join([f"{row.runs}/{row.wanted}", *paused, *lacking, *filter(None, [earlier])])


def _words(found: Interval) -> str:
    """Return a mean with as many digits as its interval leaves a meaning.

    >>> _words(interval({"1": 0.25, "2": 0.35})), _words(interval({"1": 0.25})), _words(interval({"1": 0.5, "2": 0.5}))
    ('0.30 ± 0.64', '0.25', '0.5 ± 0')
    >>> _words(interval({"1": 2.0, "2": 2.0001})), _words(interval({"1": 2000.0, "2": 2100.0}))
    ('2.00005 ± 0.00064', '2050 ± 635')
    """
    if found.mean is None:
        return "nan"
    if not found.half_width or not math.isfinite(found.half_width):
        return f"{found.mean:.4g}" if found.half_width is None else f"{found.mean:.4g} ± {found.half_width:.2g}"
    digits = max(0, 1 - math.floor(math.log10(found.half_width)))
    if digits > 6:
        return f"{found.mean:.4g} ± {found.half_width:.2g}"
    return f"{found.mean:.{digits}f} ± {found.half_width:.{digits}f}"


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write the table for people and for programs, each file at once and the same bytes for the same rows.

    ``table.md`` is the table as it is shown, ``table.csv`` has one line for each setting, ``table.json`` every value.
    """
    for kind, text in (("json", json.dumps([asdict(row) for row in rows], indent=1)), ("csv", _csv(rows))):
        durable.replace(folder / f"{TABLE}.{kind}", text.encode())
    durable.replace(folder / f"{TABLE}.md", plain(Grid(*in_words(rows), markdown=True)).encode())


def _csv(rows: Sequence[Row]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row.setting))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counts = ["runs", "failed", "missing", "wanted", "paused", "earlier"]
    writer.writerow([*keys, *counts, *(column for name in metrics for column in (name, f"{name}.ci95"))])
    for row in rows:
        found = [row.metrics.get(name, Interval(None, None, {})) for name in metrics]
        numbers = [number for one in found for number in (one.mean, one.half_width)]
        told = [getattr(row, name) for name in counts]
        writer.writerow([*(row.setting.get(key, "") for key in keys), *told, *numbers])
    return text.getvalue()
