"""All that a silo is ever asked of its table.  The answers are counts, sums, and names; none holds a row.

Each function is put to a table where the table is, and only what it returns goes elsewhere.  Scales, fills and
categories are learnt from training rows alone; the way a file is written, what kind a column is, and the names of
classes from all.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data.columns.checks import LABEL_LIMIT
from fedray.data.encoding.encoding import Encoding, column_values
from fedray.data.encoding.moments import Sums
from fedray.data.encoding.options import Options
from fedray.data.encoding.table import Kind, Table
from fedray.data.encoding.usual import told_by
from fedray.data.encoding.words import canonical, names_rows

FEWEST = 5
"""The fewest rows of a value that is told of a column of many values: what fewer have may name a person."""

_WHOLE = re.compile("-?[0-9]+")


@dataclass(frozen=True)
class Outline:
    """The outline of a table: its size and the names of its columns.

    Args:
        path: the file, for errors.
        rows: the number of its rows.
        columns: their names, in the order of the file.
        form: the way the file is written, in words, where it is not the usual one.
        dropped: the number of rows without a target that were left out.
        held: the number of its rows that are held out.
    """

    path: str
    rows: int
    columns: tuple[str, ...]
    form: str = ""
    dropped: int = 0
    held: int = 0


@dataclass(frozen=True)
class Labels:
    """The values of the target column.

    Args:
        kind: whole numbers, numbers, or text.
        names: the different ones, sorted as text; None where they are values rather than names of classes.
    """

    kind: Literal["whole", "numbers", "text"]
    names: tuple[str, ...] | None


def outline(table: Table) -> Outline:
    """Return the table's number of rows, the names of its columns, and its dialect."""
    held = table.rows - int(table.training.sum())
    return Outline(str(table.path), table.rows, tuple(table.columns), table.written, table.dropped, held)


def kinds(table: Table, columns: Sequence[str]) -> dict[str, Kind]:
    """Return if columns hold numbers, dates, booleans, text, or nothing."""
    return {name: table.kind(name) for name in columns}


def dialect(table: Table, columns: Sequence[str], dates: Sequence[str]) -> dict[str, Any]:
    """Return the delimiter, the quote, the decimal mark and the format of dates, as far as the table tells them.

    Args:
        table: the table.
        columns: those of numbers.
        dates: those of dates.
    """
    return told_by(table, columns, dates)


def sums(table: Table, columns: Sequence[str], center: NDArray[np.float64], options: Options | None = None) -> Sums:
    """Sum training rows of numeric and ordinal columns about zero, then about the mean: counts, sums, sums of squares.

    Args:
        table: the table.
        columns: the names of the columns.
        center: zero, or the mean, ``[k]``.
        options: the options for reading tables.

    Raises:
        ConfigError: a cell that is neither missing nor a number, or no level, with its line.
    """
    read = options or Options("")
    values = np.stack([column_values(table, name, read) for name in columns], axis=1)
    return Sums.of(values[table.training], center)


def categories(table: Table, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the different values of categorical columns in training rows, sorted; whole numbers in one form.

    Raises:
        ConfigError: a column of ids, whose values are told to nobody.
    """
    return {name: _names(table, name) for name in columns}


def frequent(table: Table, columns: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many training rows each value has that at least five have, of columns of many values."""
    counts = {name: Counter(map(canonical, table.values(name))) for name in columns}
    return {name: {word: n for word, n in sorted(count.items()) if n >= FEWEST} for name, count in counts.items()}


def unseen(table: Table, encoding: Encoding) -> dict[str, int]:
    """Count the cells of each categorical column that are taken as they are of no known category."""
    return encoding.unseen(table)


def _names(table: Table, name: str) -> tuple[str, ...]:
    values = list(map(canonical, table.values(name)))
    found = set(values)
    if names_rows(len(found), len(values)):
        raise ConfigError(
            f"{table.path}: column {name!r} has {len(found):,} different values in {len(values):,} rows, "
            f"as ids or free text have, not categories\nleave it out: `ignore: [{name}]`, list its values: "
            f"`categorical: {{{name}: [...]}}`, or take its most frequent ones: `categorical: {{{name}: {{top: 20}}}}`"
        )
    return tuple(sorted(found))


def fingerprint(table: Table) -> str:
    """Return the SHA-256 of the file."""
    with table.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def labels(table: Table, target: str, classes: bool) -> Labels:
    """Return the kind of the target's values, and the names of its classes.

    Args:
        table: the table.
        target: name of the column.
        classes: it is known to hold classes; else numbers are told only if they are whole and few.
    """
    values = [canonical(label) for label in table.text(target) if label is not None]
    found = set(values)
    kind: Literal["whole", "numbers", "text"] = "text"
    if all(_WHOLE.fullmatch(label) for label in found):
        kind = "whole"
    elif all_numbers(found) or _decimals(table, target):
        kind = "numbers"
    if kind == "text" and names_rows(len(found), len(values)):
        raise ConfigError(
            f"{table.path}: the target {target!r} has {len(found):,} different values in {len(values):,} rows, "
            "as ids or free text have, not classes\ncorrect `target`, or list its `classes`"
        )
    told = classes or kind == "text" or (kind == "whole" and len(found) <= LABEL_LIMIT)
    return Labels(kind, tuple(sorted(found)) if told else None)


def class_counts(table: Table, encoding: Encoding) -> NDArray[np.int64]:
    """Count the training rows of each class, int64 ``[classes]``; empty for regression.

    Args:
        table: the table.
        encoding: the encoding that all silos have agreed on.

    Raises:
        ConfigError: a row that cannot be encoded, with its line: now rather than in the first round.
    """
    encoding.inputs(table)
    return encoding.by_class(encoding.targets(table)[table.training])


def target_sums(table: Table, encoding: Encoding, center: NDArray[np.float64]) -> Sums:
    """Sum the targets of the training rows about zero, then about the mean: their count, sum and sum of squares.

    Args:
        table: the table.
        encoding: the encoding that all silos have agreed on, of a regression.
        center: the number subtracted from each target first, ``[1]``.
    """
    return Sums.of(encoding.targets(table)[table.training].astype(np.float64), center)


def _decimals(table: Table, name: str) -> bool:
    """Tell if a column holds numbers with decimal commas, or groups of thousands."""
    if table.kind(name) != "numbers":
        return False
    try:
        table.numbers(name)
    except ConfigError:
        return False
    return True


def all_numbers(words: set[str]) -> bool:
    """Return True if every word is a finite number."""
    try:
        return all(np.isfinite(float(word)) for word in words)
    except ValueError:
        return False
