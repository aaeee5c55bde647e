"""One table, read from a CSV or Parquet file, with errors that name file, line and column."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, counted

LARGEST = float(np.finfo(np.float32).max)
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9][0-9. ]*,[0-9]+")
_KINDS = {b"PAR1": "a Parquet file", b"PK\x03\x04": "an Excel workbook or another zip file", b"\x1f\x8b": "compressed"}
SEPARATED = "; columns are separated by commas"
MISSING = ("", "na", "nan", "n/a", "null", "none")


def single_but_separated(columns: Iterable[str]) -> bool:
    """Tell if a header of one column looks like several that something else than a comma separates."""
    only = list(columns)
    return len(only) == 1 and any(separator in only[0] for separator in ";\t|")


@dataclass(frozen=True)
class Table:
    """Named columns of one file.

    Args:
        path: the file, for errors.
        columns: its columns by name, in the order of the file, all of length ``rows``.
        rows: number of rows.
    """

    path: Path
    columns: dict[str, pa.ChunkedArray]
    rows: int

    def where(self, row: int) -> str:
        """Return the place of row ``row``: ``FILE, line 7`` in a CSV file; in another file, its number from 1."""
        if self.path.suffix.lower() == ".parquet":
            return f"{self.path}, row {row + 1}"
        for number, (line, _) in enumerate(_records(self.path)):
            # Record 0 is the header.
            if number == row + 1:
                return f"{self.path}, line {line}"
        return str(self.path)

    def text(self, name: str) -> list[str | None]:
        """Return a column as text, None where it is missing (empty, NA, NaN, N/A, null, None in any case)."""
        column = self._trimmed[name] if name in self._trimmed else self.columns[name].cast(pa.string())
        return [None if value is None or value.lower() in MISSING else value for value in column.to_pylist()]

    def numbers(self, name: str, *, target: bool = False) -> NDArray[np.float64]:
        """Return a column as float64 ``[rows]``, NaN where it is missing; ``target``: it is the one to predict.

        Raises:
            ConfigError: a cell that is neither missing nor a number that float32 can hold.
        """
        column = self.columns[name]
        if name in self._trimmed:
            column = self._trimmed[name]
            missing = pc.is_in(pc.utf8_lower(column), value_set=pa.array(MISSING))
            column = pc.if_else(missing, None, column)
        try:
            values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy().astype(np.float64)
        except pa.ArrowException:
            values = np.array([_number(value) for value in column.to_pylist()])
        bad = np.flatnonzero(np.abs(values) > LARGEST)
        if len(bad):
            value = str(self.columns[name][int(bad[0])].as_py())
            raise ConfigError(
                f"{self.where(int(bad[0]))}, column {name!r}: {value!r} {self._remedy(name, value, target)}"
            )
        return values

    def _remedy(self, name: str, value: str, target: bool) -> str:
        """Say what is wrong with a cell that is no number, and what to do, by what else the column holds."""
        if _DECIMAL_COMMA.fullmatch(value.strip()):
            return "is not a number (a decimal comma? write 1.5, not 1,5)"
        if _is_number(value):
            return "is not a finite number below 3e38; correct it, or leave it empty if missing"
        if target:
            return "is not a number; correct it, or say `task: classification` if the target is a class"
        words = [cell for cell in self.text(name) if cell is not None]
        if any(map(_is_number, words)) or name not in self._trimmed:
            return (
                f"is not a number; correct it, leave it empty if missing, or leave the column out: `ignore: [{name}]`"
            )
        if names_rows(len(set(words)), len(words)):
            return f"is not a number; the column looks like ids or free text: leave it out: `ignore: [{name}]`"
        return f"is not a number; declare the column, `categorical: [{name}]`, or leave it out: `ignore: [{name}]`"

    @cached_property
    def _trimmed(self) -> dict[str, pa.ChunkedArray]:
        strings = {name: column for name, column in self.columns.items() if pa.types.is_string(column.type)}
        return {name: pc.utf8_trim_whitespace(column) for name, column in strings.items()}


def names_rows(different: int, values: int) -> bool:
    """Return whether a column names single rows: more than ten different values, and more than half of all differ.

    >>> names_rows(10, 10), names_rows(11, 20), names_rows(11, 22)
    (False, True, False)
    """
    return different > 10 and 2 * different > values


def _is_number(word: str) -> bool:
    try:
        return "_" not in word and float(word) is not None
    except ValueError:
        return False


def _number(value: object) -> float:
    """Return a float: NaN for a missing value; infinity, which no column may hold, for text that is no number."""
    if value is None:
        return float("nan")
    try:
        return float("inf") if "_" in str(value) else float(str(value))
    except ValueError:
        return float("inf")


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a CSV file, each with the number of its first line; empty lines are skipped."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        line = 1
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1


def _existing(path: str | Path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(
            f"the path of a file is needed, got an object of type {type(path).__name__}; "
            "tables in memory go into FederatedData.from_arrays(x, y, clients)"
        )
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise ConfigError(f"data file {path} {what} (current folder: {Path.cwd()})")
    return path


def _check_header(path: Path, names: list[str]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name:
            raise ConfigError(f"{path}: column {number + 1} has no name (an index column? write the file without it)")
        if "\n" in name:
            raise ConfigError(f"{path}: the column name {name!r} has a line break")
        if name in seen:
            raise ConfigError(f"{path}: the column name {name!r} occurs twice; columns are matched by name")
        seen.add(name)
    if all(_number(name) < float("inf") for name in names):
        shown = ",".join(names[:4]) + (",..." if len(names) > 4 else "")
        raise ConfigError(f"{path} has no header: its first line is {shown!r}; the first line must name the columns")


def read_csv(path: str | Path) -> Table:
    """Read a comma-separated UTF-8 file with a header line; cells are kept as text until they are used.

    Raises:
        ConfigError: missing or empty file, no header (a first line of numbers only), unnamed or repeated columns, a
            row with too few or too many cells (with its line number), a file that is not UTF-8.
    """
    path = _existing(path)
    with path.open("rb") as file:
        start = file.read(4)
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            hint = "; `data.name: folder` and `silos` read Parquet" if magic == b"PAR1" else ""
            raise ConfigError(f"{path} is {kind}, not CSV: save it as CSV in UTF-8{hint}")
    try:
        header = next(_records(path), None)
        if header is None:
            raise ConfigError(f"{path} is empty; a header line that names the columns is required")
        names = [name.strip() for name in header[1]]
        _check_header(path, names)
        raw = [str(number) for number in range(len(names))]
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=raw, skip_rows=header[0], use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(raw, pa.string())),
        )
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from None
    except pa.ArrowInvalid as error:
        raise _explain(path, str(error)) from None
    return Table(path, dict(zip(names, table.columns, strict=True)), table.num_rows)


def _explain(path: Path, reason: str) -> ConfigError:
    """Find what pyarrow could not read with the csv module, which knows line numbers, and return the error."""
    try:
        records = list(_records(path))
    except (UnicodeDecodeError, csv.Error) as error:
        return ConfigError(f"{path} cannot be read as UTF-8 CSV: {error}")
    width = len(records[0][1])
    for line, record in records[1:]:
        if len(record) != width:
            hint = SEPARATED if single_but_separated(records[0][1]) else ""
            found, named = counted(len(record), "cell"), counted(width, "column")
            return ConfigError(f"{path}, line {line}: {found}, but the header names {named}{hint}")
    if len(records) == 1:
        return ConfigError(f"{path} has a header but no rows; neither a client nor a test set can be empty")
    return ConfigError(f"{path} cannot be read as CSV: {reason}")


def read_parquet(path: str | Path) -> Table:
    """Read a Parquet file of flat columns (numbers, booleans, text).

    Raises:
        ConfigError: missing or unreadable file, or repeated columns.
    """
    path = _existing(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    names = [str(name) for name in table.column_names]
    _check_header(path, names)
    columns = [_plain(column) for column in table.columns]
    return Table(path, dict(zip(names, columns, strict=True)), table.num_rows)


def read_table(path: str | Path) -> Table:
    """Read a Parquet file if it is called ``.parquet``, else a CSV file; errors as for either."""
    return read_parquet(path) if Path(path).suffix.lower() == ".parquet" else read_csv(path)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_large_string(kind):
        return column.cast(pa.string())
    return column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
