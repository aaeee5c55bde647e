"""Tables from files: text in any dialect, Parquet, Excel workbooks."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fedray.core.errors import ConfigError, counted
from fedray.data.columns.paths import need_file
from fedray.data.encoding.advice import Advice
from fedray.data.encoding.dialect import DELIMITERS, Form, detect
from fedray.data.encoding.excel import EXCEL, read_sheet
from fedray.data.encoding.table import Reading, Table
from fedray.data.encoding.words import is_number

_KINDS = {b"PAR1": "a Parquet file", b"PK\x03\x04": "an Excel workbook or another zip file"}


def single_but_separated(columns: Iterable[str]) -> bool:
    """Tell if a header of one column looks like several that another delimiter separates.

    >>> single_but_separated(["age;sex"]), single_but_separated(["age", "sex"])
    (True, False)
    """
    only = list(columns)
    return len(only) == 1 and any(delimiter in only[0] for delimiter in (*DELIMITERS, *"#^~:"))


def read_table(path: str | Path, reading: Reading | None = None) -> Table:
    """Read a file by its suffix: ``.parquet``, ``.xlsx`` and ``.xlsm``; else it is text in some dialect.

    Raises:
        ConfigError: a file that is missing, or cannot be read, as :func:`read_csv` says it.
    """
    suffix = Path(path).suffix.lower() if isinstance(path, str | os.PathLike) else ""
    if suffix == ".parquet":
        return read_parquet(path, reading)
    return read_excel(path, reading) if suffix in EXCEL else read_csv(path, reading)


def read_csv(path: str | Path, reading: Reading | None = None) -> Table:
    """Read a text file with a header line; cells are kept as text until they are used.

    Raises:
        ConfigError: missing or empty file, no header (a first line of numbers only), unnamed or repeated columns, a
            row with too few or too many cells (with its line number), a file that is no text.
    """
    reading = reading or Reading()
    path = _existing(path)
    with path.open("rb") as file:
        start = file.read(4)
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            suffix = "`.parquet`" if magic == b"PAR1" else "`.xlsx`"
            raise ConfigError(f"{path} is {kind}, not CSV: a file that is called {suffix} is read as such")
    form = detect(path, reading.dialect, reading.advice)
    try:
        header = next(form.records(path), None)
        if header is None:
            raise ConfigError(f"{path} is empty; a header line that names the columns is required")
        names = [name.strip() for name in header[1]]
        check_header(path, names)
        raw = [str(number) for number in range(len(names))]
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(
                column_names=raw, skip_rows=header[0], use_threads=False, encoding=form.encoding
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=form.delimiter, quote_char=form.quote or False, newlines_in_values=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(raw, pa.string())),
        )
    except UnicodeError:
        raise ConfigError(f"{path} is not {form.encoding.removesuffix('-sig')} text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from None
    except pa.ArrowInvalid as error:
        raise _explain(path, form, str(error), reading.advice) from None
    columns = dict(zip(names, table.columns, strict=True))
    return _complete(Table(path, columns, table.num_rows, reading, form))


def read_parquet(path: str | Path, reading: Reading | None = None) -> Table:
    """Read a Parquet file of flat columns (numbers, booleans, dates, text).

    Raises:
        ConfigError: missing or unreadable file, or repeated columns.
    """
    path = _existing(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    names = [str(name) for name in table.column_names]
    check_header(path, names)
    columns = dict(zip(names, map(_plain, table.columns), strict=True))
    return _complete(Table(path, columns, table.num_rows, reading or Reading()))


def table_beside(path: Path, columns: Mapping[str, pa.ChunkedArray], reading: Reading) -> Table:
    """Return columns of a file, each of one value a row, as a table that is read like one of Parquet."""
    rows = len(next(iter(columns.values())))
    return Table(path, {name: _plain(column) for name, column in columns.items()}, rows, reading)


def read_excel(path: str | Path, reading: Reading | None = None) -> Table:
    """Read a sheet of an Excel workbook, the first or that of ``csv: {sheet: ...}``; its first row names the columns.

    Raises:
        ConfigError: missing or unreadable file, openpyxl is not installed, no such sheet, repeated columns.
    """
    reading = reading or Reading()
    path = _existing(path)
    names, columns = read_sheet(path, reading.dialect.sheet)
    check_header(path, names)
    rows = len(columns[0]) if columns else 0
    return _complete(Table(path, dict(zip(names, columns, strict=True)), rows, reading))


def check_header(path: Path, names: Sequence[str]) -> None:
    """Raise ConfigError if a column has no name or one that another has, or if the header looks like data."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name:
            raise ConfigError(f"{path}: column {number + 1} has no name (an index column? write the file without it)")
        if "\n" in name:
            raise ConfigError(f"{path}: the column name {name!r} has a line break")
        if name in seen:
            raise ConfigError(f"{path}: the column name {name!r} occurs twice; columns are matched by name")
        seen.add(name)
    if all(map(is_number, names)):
        shown = ",".join(names[:4]) + (",..." if len(names) > 4 else "")
        raise ConfigError(f"{path} has no header: its first line is {shown!r}; the first line must name the columns")


def _existing(path: str | Path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(
            f"the path of a file is needed, got an object of type {type(path).__name__}; "
            "tables in memory go into FederatedData.from_arrays(x, y, clients)"
        )
    path = Path(path)
    need_file(path)
    return path


def _complete(table: Table) -> Table:
    """Leave out rows without a target, if it is asked for."""
    drop = table.reading.drop
    if drop is None:
        return table
    left = table.with_rows_of(drop, table.reading.keep)
    if left.rows == 0 and table.rows:
        raise ConfigError(f"{table.path}: no row has a value of the target {drop!r}")
    return left


def _explain(path: Path, form: Form, reason: str, advice: Advice) -> ConfigError:
    """Find what pyarrow could not read with the csv module, which knows line numbers, and return the error."""
    try:
        records = list(form.records(path))
    except (UnicodeError, csv.Error) as error:
        return ConfigError(f"{path} cannot be read as CSV: {error}")
    width = len(records[0][1])
    for line, record in records[1:]:
        if len(record) != width:
            hint = advice.delimiter if single_but_separated(records[0][1]) else ""
            found, named = counted(len(record), "cell"), counted(width, "column")
            return ConfigError(f"{path}, line {line}: {found}, but the header names {named}{hint}")
    if len(records) == 1:
        return ConfigError(advice.no_rows(path))
    return ConfigError(f"{path} cannot be read as CSV: {reason}")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column
