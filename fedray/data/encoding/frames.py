"""Rows to be predicted, from a file or from memory, as a table and as inputs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, an, listed
from fedray.data.encoding.advice import Advice
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.far import warn_of_far
from fedray.data.encoding.table import Reading, Table
from fedray.data.encoding.usual import as_usual, read_as_usual

_log = logging.getLogger("fedray")

KINDS = "a pandas DataFrame, a dict of columns, a pyarrow.Table, or the path of a CSV, Excel or Parquet file"
_SPELLINGS = (("False", "True"), ("false", "true"), ("0", "1"), ("no", "yes"))


class Frame(Table):
    """A table that is in memory alone."""

    def where(self, row: int) -> str:
        """Return the place of row ``row``, its number from 1."""
        return f"row {row + 1}"


def is_table(rows: Any) -> bool:
    """Tell if rows are a table: :data:`KINDS`."""
    frame = hasattr(rows, "columns") and hasattr(rows, "iloc")
    return frame or isinstance(rows, str | Path | Mapping | pa.Table)


def table_of(rows: Any, encoding: Encoding, csv: Mapping[str, Any] | None = None) -> Table:
    """Return rows as a table, whose columns the encoding can read as it reads those of files.

    Whole numbers that stand in a column of floats, as pandas has them where some are missing, are categories as they
    would be written in a file, and so are True and False.  Words for missing values and sentinels are those of the
    training tables; no row is left out.

    >>> from fedray.data.encoding.options import Options
    >>> encoding = Encoding(Options("ill"), {"age": (50.0, 10.0, 50.0)}, {"sex": ["0", "1"]}, ["age", "sex"], None)
    >>> table_of({"age": [40, None], "sex": [1.0, None]}, encoding).text("sex")
    ['1', None]

    Args:
        rows: :data:`KINDS`.
        encoding: the encoding of the model.
        csv: the dialect of a file, where it is not found right and differs from that of the training tables, which is
            the default for what the rows do not show.

    Raises:
        ConfigError: they are something else, cannot be read, or columns are not of one length.
    """
    path = Path(rows) if isinstance(rows, str | Path) else Path("the rows")
    told = encoding.options.reading(path, csv)
    advice = Advice("rows" if encoding.beside else "command" if isinstance(rows, str | Path) else "python")
    reading = Reading(told.dialect, told.missing, advice=advice)
    if isinstance(rows, str | Path):
        return _as_trained(read_as_usual(path, reading, encoding.usual(path), encoding.order), encoding)
    if not is_table(rows):
        raise ConfigError(f"rows: {KINDS} is needed; this is {an(type(rows).__name__)}")
    if isinstance(rows, pa.Table):
        found = dict(zip(rows.column_names, rows.columns, strict=True))
    else:
        names = list(rows.columns) if hasattr(rows, "columns") else list(rows)
        found = {str(name): pa.chunked_array([_array(rows[name], str(name))]) for name in names}
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"columns have different lengths: {listed(f'{n} {k}' for n, k in lengths.items())}")
    count = next(iter(lengths.values()), 0)
    columns = {name: _plain(column, encoding.categories.get(name)) for name, column in found.items()}
    return _as_trained(Frame(path, columns, count, reading), encoding)


def _as_trained(table: Table, encoding: Encoding) -> Table:
    return as_usual(table, encoding.usual(table.path), encoding.measured("numbers"), encoding.measured("dates"))


def inputs_of(table: Table, encoding: Encoding) -> NDArray[np.float32]:
    """Return the inputs of rows that are to be predicted, which need no target.

    Raises:
        ConfigError: a column is missing, or a cell does not fit, with its line.
    """
    if not table.rows:
        raise ConfigError(f"{table.path}: there are no rows")
    missing = [name for name in encoding.order if name not in table.columns]
    needed = missing if len(missing) == len(encoding.order) else [n for n in missing if not encoding.may_lack(n)]
    if needed:
        more = ""
        if encoding.options.missing_columns == "impute" and encoding.lacked is not None:
            filled = f": {listed(encoding.lacked)}" if encoding.lacked else ", and none did"
            more = f"; missing_columns: impute fills in what some training table lacked{filled}"
        raise ConfigError(lacking(table.path, needed, table.columns, encoding.order) + more)
    if missing:
        others = [name for name in beside(table, encoding) if name != encoding.options.target]
        unknown = f"; columns that are no inputs: {listed(map(repr, others))}" if others else ""
        _log.warning(
            "%s: there is no column %s: it counts as missing in every row, as the run has missing_columns: impute%s",
            table.path,
            listed(f"{name!r}{nearest(name, others)}" for name in missing),
            unknown,
        )
    found = encoding.inputs(table)
    warn_of_far(table, encoding)
    return found


def lacking(where: object, missing: Collection[str], there: Iterable[str], needed: Collection[str]) -> str:
    """Return what is said of columns that rows to be predicted lack, with those that may be meant.

    >>> lacking("new.csv", ["chol"], ["id", "sex", "cholest"], ["sex", "chol"]).partition("; call")[0]
    "new.csv: there is no column 'chol' (did you mean 'cholest'?); the model needs sex, chol"
    """
    others = [name for name in there if name not in needed]
    each = listed(f"{name!r}{nearest(name, others)}" for name in missing)
    return (
        f"{where}: there is no column {each}; the model needs {listed(needed)}; call columns as the training tables do,"
        " and add one that nobody has measured with empty cells, which count as missing"
    )


def beside(table: Table, encoding: Encoding) -> list[str]:
    """Return the names of the columns that are no inputs, such as the ids of patients."""
    return [name for name in table.columns if name not in encoding.order]


def _array(values: Any, name: str) -> pa.Array:
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        found = pa.array([None if value is None or value != value else str(value) for value in values])
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _plain(column: pa.ChunkedArray, categories: list[str] | None) -> pa.ChunkedArray:
    """Return a column as one of a file would be: numbers, or text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), categories)
    if pa.types.is_boolean(kind):
        if categories is None:
            return column.cast(pa.int8())
        no, yes = next((pair for pair in _SPELLINGS if set(pair) & set(categories)), _SPELLINGS[0])
        return pc.if_else(column, yes, no)
    if pa.types.is_floating(kind) and categories is not None:
        there = pc.drop_null(column)
        if pc.all(pc.equal(there, pc.floor(there)), min_count=0).as_py():
            return column.cast(pa.int64())
        return column
    kept = pa.types.is_integer, pa.types.is_floating, pa.types.is_date, pa.types.is_timestamp
    return column if any(test(kind) for test in kept) else column.cast(pa.string())
