"""The table of a sweep: means over seeds, with their uncertainty."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedray.core.record import OWN, VIEWS, headline, limits, own
from fedray.core.terminal import Grid, fitted, plain
from fedray.rundir import durable
from fedray.sweep.grid import SEED, Cell, readable

TABLE = "table"
GIVEN = ("train.lr",)
"""Numbers that training was given, which are no results."""

CONFIDENCE = 0.95

NOT_VARIED = "as config"
"""The words for a key that the sweep of a setting did not vary, and others in the folder did."""

_NOT_MEASURED = "-"
_CUT = re.compile(r"[\d.]+ \[[\d.]+, [\d.]+\]")


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


def numbers_of(sections: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of a record by section and name, ``clients_test.accuracy``, as a table of runs has them.

    Of clients that of all their rows together; and as ``own`` the mean over clients, each counted once, with the model
    that each would use, which algorithms with and without personal models have in common, and of the metric that stands
    for all its ``worst``: the mean over the tenth of the clients that fares worst.

    >>> spread = {"accuracy": {"mean": 0.75, "client_mean": 0.5, "worst": 0.25}}
    >>> numbers_of({"test": {"loss": 0.25}, "clients_personal": spread})
    {'test.loss': 0.25, 'own.accuracy': 0.5, 'own.accuracy.worst': 0.25, 'clients_personal.accuracy': 0.75}
    """
    each = sections.get(own(sections), {})
    clients = {f"{OWN}.{metric}": spread.get("client_mean") for metric, spread in each.items()}
    if each and "worst" in each[first := headline(list(each))]:
        clients |= {f"{OWN}.{first}.worst": each[first]["worst"]}
    for name in VIEWS.values():
        clients |= {f"{name}.{metric}": spread.get("mean") for metric, spread in sections.get(name, {}).items()}
    test, train = (
        {f"{name}.{metric}": value for metric, value in sections.get(name, {}).items()} for name in ("test", "train")
    )
    return test | clients | train


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
        lacking = _NOT_MEASURED if row.runs else ""
        numbers = (_words(row.metrics[name], name) if name in row.metrics else lacking for name in metrics)
        lines.append([*(readable(row.setting.get(key, NOT_VARIED)) for key in keys), _runs(row), *numbers])
    return [*keys, "runs", *metrics], lines


def notes(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield what is to be said below a table for people: of the signs in it, and of its columns."""
    if any(_NOT_MEASURED in line for line in lines):
        yield (
            f"{_NOT_MEASURED}: not measured: test is of a whole model on the server, clients_personal of models of the "
            "clients' own, and not every algorithm has both"
        )
    if any(name.startswith(f"{OWN}.") for name in head):
        yield (
            "own: the model that each client would use, its own or else the global one; the mean over clients, and as "
            "worst the mean over the tenth of them that fares worst"
        )
    if any(name.startswith(tuple(f"{view}." for view in VIEWS.values())) for name in head):
        yield "clients_...: the rows of all clients together"
    if any(_CUT.fullmatch(cell) for line in lines for cell in line):
        yield "[ ]: the ends of the confidence interval, cut at the least and the most that there can be"


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that a table for people has.

    What training was given, such as its learning rate, is none; ``own`` is there where some settings have personal
    models and some have none, and so no other number of clients is common to them.  Those of training are last.
    """
    kept = [name for name in dict.fromkeys(name for row in rows for name in row.metrics) if name not in GIVEN]
    sections = [{name.partition(".")[0] for name in row.metrics} for row in rows]
    personal = {VIEWS["personal"] in one for one in sections if OWN in one}
    found = [name for name in kept if len(personal) > 1 or not name.startswith(f"{OWN}.")]
    return sorted(found, key=lambda name: name.startswith("train."))


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
    earlier = "earlier" if row.earlier == row.wanted else f"{row.earlier} of them earlier" if row.earlier else ""
    return ", ".join([f"{row.runs}/{row.wanted}", *paused, *lacking, *filter(None, [earlier])])


def _words(found: Interval, name: str) -> str:
    """Return a mean with as many digits as its interval leaves a meaning.

    An interval that goes beyond what there can be of the metric is cut there, and stands in brackets by its ends.

    >>> of = "test.loss"
    >>> _words(interval({"1": 0.25, "2": 0.35}), of), _words(interval({"1": 0.25}), of)
    ('0.30 ± 0.64', '0.25')
    >>> _words(interval({"1": 2.0, "2": 2.0001}), of), _words(interval({"1": 2000.0, "2": 2100.0}), of)
    ('2.00005 ± 0.00064', '2050 ± 635')
    >>> _words(interval({"1": 0.5, "2": 0.5}), of), _words(interval({"1": 0.9, "2": 0.94}), "test.accuracy")
    ('0.5 ± 0', '0.92 [0.67, 1.00]')
    """
    if found.mean is None:
        return "nan"
    if not found.half_width or not math.isfinite(found.half_width):
        return f"{found.mean:.4g}" if found.half_width is None else f"{found.mean:.4g} ± {found.half_width:.2g}"
    digits = max(0, 1 - math.floor(math.log10(found.half_width)))
    if digits > 6:
        return f"{found.mean:.4g} ± {found.half_width:.2g}"
    least, most = limits(name.split(".")[1])
    low, high = found.mean - found.half_width, found.mean + found.half_width
    if least <= found.mean <= most and (low < least or high > most):
        return f"{found.mean:.{digits}f} [{max(low, least):.{digits}f}, {min(high, most):.{digits}f}]"
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
