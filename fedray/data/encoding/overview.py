"""Further questions to tables, which a report on data asks of training rows.  As in :mod:`questions`, none tells a row.

Quantiles and repeated values are told of many rows alone: of few they would be the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data.encoding.table import Table
from fedray.data.encoding.words import canonical, names_rows

LEVELS = (0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95)
"""The quantiles that a silo tells of a column of numbers."""

FEWEST = 20
"""The fewest values of a column of which quantiles are told."""

_REPEATED, _SHARE, _MANY = 5, 0.02, 10


@dataclass(frozen=True)
class Column:
    """The outline of a silo's column.

    Args:
        kind: numbers, dates (days since 1970), text, no value at all, or ``absent``: there is no such column.
        missing: the number of missing values.
        different: the number of different values.
        quantiles: those of :data:`LEVELS`; None: no numbers, or fewer than :data:`FEWEST`.
        extreme: the smallest or largest value that many rows have far from all others, and how many have it: it may
            stand for a missing one; None: there is none.
        names_rows: it is text that differs from row to row, as ids do.
        whole: all its numbers are whole.
    """

    kind: Literal["numbers", "dates", "text", "empty", "absent"]
    missing: int
    different: int = 0
    quantiles: tuple[float, ...] | None = None
    extreme: tuple[float, int] | None = None
    names_rows: bool = False
    whole: bool = False


def described(table: Table, columns: Sequence[str], text: Sequence[str] = ()) -> dict[str, Column]:
    """Return the outlines of columns.

    Args:
        table: the table.
        columns: their names, of which the table may lack some.
        text: those that hold categories, even where these are written as numbers.
    """
    return {name: _described(table, name, name in text) for name in columns}


def _described(table: Table, name: str, category: bool) -> Column:
    rows = int(table.training.sum())
    if name not in table.columns:
        return Column("absent", rows)
    cells = table.values(name)
    missing = rows - len(cells)
    if not cells:
        return Column("empty", missing)
    values = None if category else _numbers(table, name)
    if values is None:
        different = len({canonical(cell) for cell in cells})
        return Column("text", missing, different, names_rows=names_rows(different, len(cells)))
    there = values[~np.isnan(values)]
    told = tuple(np.quantile(there, LEVELS).tolist()) if len(there) >= FEWEST else None
    kind: Literal["numbers", "dates"] = "dates" if table.kind(name) == "dates" else "numbers"
    whole = kind == "numbers" and bool((there == np.floor(there)).all())
    return Column(kind, rows - len(there), len(np.unique(there)), told, far_apart(there), whole=whole)


def _numbers(table: Table, name: str) -> NDArray[np.float64] | None:
    try:
        return table.numbers(name)[table.training]
    except ConfigError:
        return None


def far_apart(values: NDArray[np.float64]) -> tuple[float, int] | None:
    """Return the smallest or the largest value, and its count, if it is repeated and far from all others.

    That is: at least five values and 2 % of all are this one, there are more than ten others, and to the nearest of
    them it is farther than their quartiles are apart.

    >>> pressures = np.array([110.0, 118, 120, 121, 125, 128, 130, 133, 135, 140, 142, 150])
    >>> far_apart(np.concatenate([pressures, np.zeros(5)])), far_apart(np.concatenate([pressures, [0.0]]))
    ((0.0, 5), None)
    """
    for end, nearest in ((values.min(), np.min), (values.max(), np.max)):
        rest = values[values != end]
        count = len(values) - len(rest)
        if count < max(_REPEATED, _SHARE * len(values)) or len(np.unique(rest)) <= _MANY:
            continue
        low, high = np.quantile(rest, (0.25, 0.75))
        if abs(float(nearest(rest)) - end) > high - low:
            return float(end), count
    return None


def in_bins(table: Table, edges: Mapping[str, Sequence[float]]) -> dict[str, NDArray[np.int64]]:
    """Count the numbers of columns in bins ``(-inf, e1], (e1, e2], ..., (ek, inf)``, int64 ``[k + 1]`` each.

    Columns that a table lacks, or that hold text there, are left out.
    """
    found = {}
    for name, ends in edges.items():
        values = _numbers(table, name) if name in table.columns else None
        if values is not None:
            there = values[~np.isnan(values)]
            places = np.searchsorted(np.asarray(ends, dtype=np.float64), there, side="left")
            found[name] = np.bincount(places, minlength=len(ends) + 1).astype(np.int64)
    return found


def counted_values(table: Table, values: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Count the rows that have each of some values, and last those that have another, int64 ``[k + 1]`` each.

    Columns that a table lacks are left out.
    """
    found = {}
    for name, known in values.items():
        if name in table.columns:
            cells = Counter(map(canonical, table.values(name)))
            counts = [cells.pop(canonical(value), 0) for value in known]
            found[name] = np.array([*counts, sum(cells.values())], dtype=np.int64)
    return found
