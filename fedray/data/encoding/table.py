"""One table, whatever file it comes from: cells as text and as numbers, and errors that name file, line and column."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, counted, listed
from fedray.data.encoding.advice import CONFIG, Advice
from fedray.data.encoding.dates import as_days, looks_like_date
from fedray.data.encoding.decimals import Marks, all_marks, decimal_mark, marks_of, plain_numbers
from fedray.data.encoding.dialect import Dialect, Form
from fedray.data.encoding.words import BOOLEANS, MissingWords, canonical, is_number, names_rows, numbered

LARGEST = float(np.finfo(np.float32).max)

Kind = Literal["numbers", "dates", "booleans", "text", "empty"]


@dataclass(frozen=True)
class Reading:
    """All that decides how the cells of a file are read.

    Args:
        dialect: of the file, as far as it is given.
        missing: words and numbers of missing values in single columns.
        drop: the column without whose value a row is left out.
        keep: values of that column that are none of the words for missing ones.
        advice: the words for what to do where they cannot be read.
    """

    dialect: Dialect = field(default_factory=Dialect)
    missing: Mapping[str, Sequence[object]] = field(default_factory=dict)
    drop: str | None = None
    keep: Sequence[str] = ()
    advice: Advice = CONFIG


@dataclass(frozen=True)
class Table:
    """Named columns of one file.

    Args:
        path: the file, for errors.
        columns: its columns by name, in the order of the file, all of length ``rows``.
        rows: number of rows.
        reading: all that decides on the values of cells.
        form: the dialect of a text file; None for another one.
        kept: the numbers in the file of the rows that are left, int64 ``[rows]``; None: all are.
        dropped: the number of rows that were left out.
        held: the rows that are held out of training, ``[rows]``; None: none is.
    """

    path: Path
    columns: dict[str, pa.ChunkedArray]
    rows: int
    reading: Reading = Reading()
    form: Form | None = None
    kept: NDArray[np.int64] | None = None
    dropped: int = 0
    held: NDArray[np.bool_] | None = None

    def where(self, row: int) -> str:
        """Return the place of row ``row``: ``FILE, line 7`` in a text file; in another file, its number from 1."""
        if self.kept is not None:
            row = int(self.kept[row])
        if self.path.suffix.lower() in (".xlsx", ".xlsm"):
            return f"{self.path}, row {row + 2}"
        if self.path.suffix.lower() in (".parquet", ".arrow", ".feather") or not self.path.is_file():
            return f"{self.path}, row {row + 1}"
        for number, (line, _) in enumerate((self.form or Form()).records(self.path)):
            # Record 0 is the header.
            if number == row + 1:
                return f"{self.path}, line {line}"
        return str(self.path)

    def place(self, row: int) -> str:
        """Return the place of row ``row`` as :meth:`where`, without the file."""
        return self.where(row).rpartition(", ")[2]

    def with_rows_of(self, target: str, keep: Collection[str] = ()) -> Table:
        """Return the table without the rows in which a column has no value; ``keep`` as for ``text``."""
        if target not in self.columns:
            return self
        mask = np.array([value is not None for value in self.text(target, keep)], dtype=bool)
        kept = np.flatnonzero(mask)
        if len(kept) == self.rows:
            return self
        return replace(self.where_true(mask), dropped=self.rows - len(kept))

    def where_true(self, mask: NDArray[np.bool_]) -> Table:
        """Return the table with the rows of a mask ``[rows]``, which keep their places in the file."""
        kept = np.flatnonzero(mask)
        columns = {name: column.filter(pa.array(mask)) for name, column in self.columns.items()}
        held = None if self.held is None else self.held[kept]
        return replace(
            self, columns=columns, rows=len(kept), kept=kept if self.kept is None else self.kept[kept], held=held
        )

    def with_held(self, held: NDArray[np.bool_]) -> Table:
        """Return the table with the rows ``[rows]`` marked that are held out of training."""
        return replace(self, held=held) if held.any() else self

    @property
    def training(self) -> NDArray[np.bool_]:
        """The rows that are not held out, ``[rows]``."""
        return np.ones(self.rows, dtype=np.bool_) if self.held is None else ~self.held

    def values(self, name: str) -> list[str]:
        """Return the values of a column's training rows as text, without missing ones."""
        pairs = zip(self.text(name), self.training.tolist(), strict=True)
        return [value for value, trains in pairs if trains and value is not None]

    def text(self, name: str, keep: Collection[str] = ()) -> list[str | None]:
        """Return a column as text, None where it is missing; all of a column that the file lacks is.

        Args:
            name: of the column.
            keep: values that are none of the words for missing ones.
        """
        if name not in self.columns:
            return [None] * self.rows
        column = self._trimmed[name] if name in self._trimmed else self.columns[name].cast(pa.string())
        cells = column.to_pylist()
        different = set(cells) - {None}
        values = set(keep) | ({"-"} if "+" in different else set())
        gone = {word for word in different if word not in values and self._missing(name).has(word)}
        return [None if value is None or value in gone else value for value in cells]

    def kind(self, name: str) -> Kind:
        """Return what the values of a column are."""
        if name not in self._kinds:
            self._kinds[name] = self._kind(name)
        return self._kinds[name]

    def _kind(self, name: str) -> Kind:
        if name not in self.columns:
            return "empty"
        column = self.columns[name]
        if name not in self._trimmed:
            if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
                return "dates"
            if pa.types.is_boolean(column.type):
                return "booleans"
            return "empty" if column.null_count == self.rows else "numbers"
        present = self._present(name)
        if not len(present):
            return "empty"
        first = str(present[0].as_py())
        if looks_like_date(first, self._dates) and self._as_days(self.words(name)) is not None:
            return "dates"
        if _boolean(first) is not None:
            words = self.words(name)
            if any(word.lower() in BOOLEANS for word in words) and all(_boolean(word) is not None for word in words):
                return "booleans"
        return "numbers" if pc.any(pc.match_substring_regex(present, "[0-9]")).as_py() else "text"

    def numbers(self, name: str, *, target: bool = False) -> NDArray[np.float64]:
        """Return a column as float64 ``[rows]``, NaN where it is missing; ``target``: it is the one to predict.

        Dates are days since 1970, booleans 0 and 1.

        Raises:
            ConfigError: a cell that is neither missing nor a number that float32 can hold.
        """
        if name not in self.columns:
            return np.full(self.rows, np.nan)
        if name in self._trimmed:
            values = self._parsed(name)
        else:
            values = _of_type(self.columns[name])
        bad = np.flatnonzero(np.abs(values) > LARGEST)
        if len(bad):
            value = str(self.columns[name][int(bad[0])].as_py())
            if mixed := self._two_marks(name):
                raise ConfigError(mixed)
            raise ConfigError(
                f"{self.where(int(bad[0]))}, column {name!r}: {value!r} {self._remedy(name, value, target)}"
            )
        if self._missing(name).numbers:
            values = np.where(np.isin(values, list(self._missing(name).numbers)), np.nan, values)
        return values

    def levels(self, name: str, levels: Sequence[str], *, lenient: bool = False) -> NDArray[np.float64]:
        """Return the place of each value of an ordinal column in its levels, from 0; NaN where it is missing.

        Args:
            name: of the column.
            levels: its values, from low to high.
            lenient: take another value for a missing one.

        Raises:
            ConfigError: another value, with its line.
        """
        known = numbered(levels)
        values = np.full(self.rows, np.nan)
        for row, value in enumerate(self.text(name, known)):
            if value is None:
                continue
            place = known.get(value, known.get(canonical(value)))
            if place is not None:
                values[row] = place
            elif not lenient:
                raise ConfigError(
                    f"{self.where(row)}, column {name!r}: unknown level {value!r}{nearest(value, levels)}; "
                    f"known, from low to high: {listed(levels)}"
                )
        return values

    @cached_property
    def _read(self) -> dict[str, NDArray[np.float64]]:
        """The numbers of columns of text that have been read, as sums and inputs are of the same."""
        return {}

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return {}

    def _parsed(self, name: str) -> NDArray[np.float64]:
        """Return the numbers of a column of text; infinity for what is none."""
        if name not in self._read:
            self._read[name] = self._parse(name)
        return self._read[name]

    def _parse(self, name: str) -> NDArray[np.float64]:
        column = self._trimmed[name]
        kind = self.kind(name)
        words = {} if kind in ("numbers", "text") else dict.fromkeys(self.words(name), 0.0)
        if kind == "dates":
            words = self._as_days(words) or {}
        elif kind == "booleans":
            words = {word: _boolean(word) or 0.0 for word in words}
        if words:
            return np.array([words.get(cell, np.nan) for cell in column.to_pylist()])
        column = pc.if_else(self._absent(name), None, column)
        try:
            mark = self._decimal(name, column)
        except ConfigError as error:
            raise ConfigError(f"{self.path}, column {name!r}: {error}") from None
        column = plain_numbers(column, mark, self.reading.dialect.thousands)
        try:
            values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy().astype(np.float64)
        except pa.ArrowException:
            values = np.array([_number(value) for value in column.to_pylist()])
        return values

    def _decimal(self, name: str, column: pa.ChunkedArray) -> str:
        dialect = self.reading.dialect
        if dialect.decimal is not None:
            return dialect.decimal
        if dialect.thousands is not None and dialect.thousands in ",.":
            return "." if dialect.thousands == "," else ","
        own = marks_of(column)
        return (
            "."
            if own == Marks()
            else decimal_mark(own, self.marks, self.form.delimiter if self.form else ",", self.reading.advice)
        )

    @cached_property
    def marks(self) -> Marks:
        """The cells of all columns that show the file's decimal mark."""
        return all_marks(self._trimmed.values())

    def marks_of(self, names: Iterable[str]) -> Marks:
        """Return the cells that show the decimal mark of some columns."""
        return all_marks(self._trimmed[name] for name in names if name in self._trimmed)

    def words(self, name: str) -> list[str]:
        """Return the different values of a column of text, in the order in which they come; none of another column."""
        return [str(word) for word in self._present(name).unique().to_pylist()] if name in self._trimmed else []

    @property
    def written(self) -> str:
        """The way the file is written, in words; empty for commas, UTF-8 and decimal points."""
        if self.form is None:
            return f"sheet {self.reading.dialect.sheet}" if self.reading.dialect.sheet else ""
        dialect, comma = self.reading.dialect, self.marks.comma and not self.marks.point
        mark = dialect.decimal or ("," if comma else ".")
        return ", ".join(filter(None, [str(self.form), "decimal comma" if mark == "," else ""]))

    @property
    def _dates(self) -> str | None:
        return self.reading.dialect.dates

    def _as_days(self, words: Iterable[str]) -> dict[str, float] | None:
        return as_days(words, self._dates, self.reading.advice)

    def _missing(self, name: str) -> MissingWords:
        return MissingWords.of([*(self.reading.dialect.missing or ()), *self.reading.missing.get(name, ())])

    def _absent(self, name: str) -> pa.ChunkedArray:
        return pc.is_in(pc.utf8_lower(self._trimmed[name]), value_set=pa.array(sorted(self._missing(name).words)))

    def _present(self, name: str) -> pa.ChunkedArray:
        column = self._trimmed[name]
        return pc.filter(column, pc.and_(pc.invert(self._absent(name)), pc.is_valid(column)))

    def _two_marks(self, name: str) -> str:
        """Say which cell of a column has the decimal mark that fewer cells have; nothing if all have the same one."""
        if name not in self._trimmed or self.reading.dialect.decimal is not None:
            return ""
        cells = self._trimmed[name].to_pylist()
        rows = {
            word: [row for row, cell in enumerate(cells) if cell is not None and re.fullmatch(pattern, cell)]
            for word, pattern in (("comma", r"[+-]?\d+,\d+"), ("point", r"[+-]?\d+\.\d+"))
        }
        (odd, few), (usual, many) = sorted(rows.items(), key=lambda found: len(found[1]))
        if not few:
            return ""
        return (
            f"{self.where(few[0])}, column {name!r}: {cells[few[0]]!r} has a decimal {odd}, but {cells[many[0]]!r} in "
            f"{self.place(many[0])} a {usual}, as {counted(len(many), 'cell')} of {len(few) + len(many):,}; write one "
            "of the two"
        )

    def _remedy(self, name: str, value: str, target: bool) -> str:
        """Say what is wrong with a cell that is no number, and what to do, by what else the column holds."""
        if "," in value and is_number(value.strip().replace(".", "").replace(",", ".")):
            return "is not a number where the decimal mark is a point; write one of the two"
        if is_number(value):
            if "." in value and is_number(value) and np.isfinite(float(value)) and abs(float(value)) <= LARGEST:
                return "is not a number where the decimal mark is a comma; write one of the two"
            return "is not a finite number below 3e38; correct it, or leave it empty if missing"
        if target:
            return "is not a number; correct it, or say `task: classification` if the target is a class"
        say = self.reading.advice.or_missing(value, self.reading.dialect.missing or ())
        if not self.reading.advice.trains:
            return f"is not a number, as the model needs; correct it, or leave it empty if missing{say}"
        words = [cell for cell in self.text(name) if cell is not None]
        if any(map(is_number, words)) or name not in self._trimmed:
            return (
                f"is not a number; correct it, leave it empty if missing{say}, or "
                f"leave the column out: `ignore: [{name}]`"
            )
        if names_rows(len(set(words)), len(words)):
            return f"is not a number; the column looks like ids or free text: leave it out: `ignore: [{name}]`"
        return f"is not a number; declare the column, `categorical: [{name}]`, or leave it out: `ignore: [{name}]`"

    @cached_property
    def _trimmed(self) -> dict[str, pa.ChunkedArray]:
        strings = {name: column for name, column in self.columns.items() if pa.types.is_string(column.type)}
        return {name: pc.utf8_trim_whitespace(column) for name, column in strings.items()}


def _of_type(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return a column that is no text as float64; infinity for what is no number."""
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        moments = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None))).cast(pa.int64())
        days: NDArray[np.float64] = pc.cast(moments, pa.float64()).to_numpy().astype(np.float64) / 86_400e6
        return days
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    try:
        values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy().astype(np.float64)
    except pa.ArrowException:
        values = np.array([_number(value) for value in column.to_pylist()])
    return values


def _boolean(word: str) -> float | None:
    """Return 1 or 0 for a word of a column of booleans, None for another word."""
    return {"1": 1.0, "0": 0.0}.get(word, BOOLEANS.get(word.lower()))


def _number(value: object) -> float:
    """Return a float: NaN for a missing value; infinity, which no column may hold, for text that is no number."""
    if value is None:
        return float("nan")
    try:
        return float("inf") if "_" in str(value) else float(str(value))
    except ValueError:
        return float("inf")
