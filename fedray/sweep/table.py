"""What the runs of a sweep say together: means over seeds, with their uncertainty."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fedray.checkpoint import replace_durably
from fedray.sweep.grid import SEED, Cell

TABLE = "table"
CONFIDENCE = 0.95


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
        wanted: runs in the sweep.
        metrics: by name, ``test.accuracy``.
    """

    setting: dict[str, str]
    runs: int
    wanted: int
    metrics: dict[str, Interval]


def tabulate(results: Sequence[tuple[Cell, Mapping[str, float | None] | None]]) -> list[Row]:
    """One row for each setting, in the order of the cells.

    Args:
        results: each cell with its final metrics by name (None: not a finite number), or None if it is not finished.
    """
    settings: dict[tuple[tuple[str, str], ...], list[tuple[Cell, Mapping[str, float | None] | None]]] = {}
    for cell, metrics in results:
        settings.setdefault(cell.setting, []).append((cell, metrics))
    return [_row(dict(setting), members) for setting, members in settings.items()]


def _row(setting: dict[str, str], members: Sequence[tuple[Cell, Mapping[str, float | None] | None]]) -> Row:
    finished = [(dict(cell.settings).get(SEED, ""), metrics) for cell, metrics in members if metrics is not None]
    names = dict.fromkeys(name for _, metrics in finished for name in metrics)
    intervals = {name: interval({s: metrics[name] for s, metrics in finished if name in metrics}) for name in names}
    return Row(setting, len(finished), len(members), intervals)


def interval(values: Mapping[str, float | None]) -> Interval:
    """Mean and confidence interval of values by seed."""
    finite = [value for value in values.values() if value is not None and math.isfinite(value)]
    if not finite or len(finite) < len(values):
        return Interval(None, None, dict(values))
    mean = math.fsum(finite) / len(finite)
    freedom = len(finite) - 1
    if not freedom:
        return Interval(mean, None, dict(values))
    variance = math.fsum((value - mean) ** 2 for value in finite) / freedom
    half_width = student_quantile(0.5 + CONFIDENCE / 2, freedom) * math.sqrt(variance / len(finite))
    return Interval(mean, half_width, dict(values))


def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t stays below with a probability in (0.5, 1), by bisection of its distribution.

    With ``t = sqrt(freedom) * tan(angle)`` the distribution is a finite sum in the angle (Abramowitz and Stegun,
    26.7.3 and 26.7.4), so that no incomplete beta function is needed.

    >>> round(student_quantile(0.975, 2), 3), round(student_quantile(0.975, 9), 3)
    (4.303, 2.262)
    """
    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        if 0.5 + _central(middle, freedom) / 2 < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _central(angle: float, freedom: int) -> float:
    """Probability that ``|t| < sqrt(freedom) * tan(angle)``."""
    odd = freedom % 2
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if odd else 1.0
    terms = []
    for power in range(1 + odd, freedom, 2):
        terms.append(term)
        term *= power / (power + 1) * cosine * cosine
    total = sine * math.fsum(terms)
    return 2 / math.pi * (angle + total) if odd else total


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``table.csv`` (one line for each setting) and ``table.json`` (the same with every value)."""
    keys = list(dict.fromkeys(key for row in rows for key in row.setting))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, "runs", "wanted", *(column for name in metrics for column in (name, f"{name}.ci95"))])
    for row in rows:
        found = [row.metrics.get(name, Interval(None, None, {})) for name in metrics]
        numbers = [number for one in found for number in (one.mean, one.half_width)]
        writer.writerow([*(row.setting.get(key, "") for key in keys), row.runs, row.wanted, *numbers])
    replace_durably(folder / f"{TABLE}.csv", text.getvalue().encode())
    replace_durably(folder / f"{TABLE}.json", json.dumps([asdict(row) for row in rows], indent=1).encode())
