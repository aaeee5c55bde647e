"""Columns of Parquet and Arrow files as arrays: numbers, lists, and bytes with their shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed
from fedray.core.stages import along
from fedray.data.columns.arrays import Columns, by_client
from fedray.data.columns.inputs import InputColumns
from fedray.data.columns.ragged import Ragged
from fedray.data.files.folder import from_pairs, list_clients

KINDS = (".parquet", ".arrow", ".feather")
RAGGED = ("pad", "length", "mask", "lengths")
"""The options of :class:`Ragged`."""


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of files of arrays, and what each is.

    Args:
        target: the column of targets; None: there is none.
        client: the column that names the client of a row; None: each file is a client.
        columns: the columns that are inputs, in their order; None: all others.
        shapes: the shape of one value of a column of bytes, or of lists.
        ragged: options of :class:`Ragged` for columns of lists of different lengths.
    """

    target: str | None = None
    client: str | None = None
    columns: Sequence[str] | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ragged: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_arrow(path: Path, test: Path | None, options: ColumnOptions) -> Columns:
    """Read a folder with a file for each client, or files whose rows say whose they are.

    Raises:
        ConfigError: files that are missing, cannot be read, or have other columns.
    """
    files = [path] if path.is_file() else list_clients(path, KINDS, test)
    tests = [] if test is None else [test]
    if options.client is None:
        if path.is_file():
            raise ConfigError(f"client: {path} is one file: name the column that says whose a row is, or give a folder")
        pairs = [read_columns(file, options)[:2] for file in along(files, "reading files")]
        return from_pairs(files, pairs, tests, [read_columns(file, options)[:2] for file in tests], None)
    if len(files) > 1:
        raise ConfigError(f"client: {path} has several files; with a column of clients give one file")
    x, y, clients = read_columns(files[0], options)
    held = [read_columns(file, options)[:2] for file in tests]
    return by_client(x, y, clients, test=held[0] if held else None)


def read_columns(file: Path, options: ColumnOptions) -> tuple[Any, Any, Any]:
    """Return the inputs, the targets and the clients of a file.

    Raises:
        ConfigError: it is missing or cannot be read, it lacks a column, or has one that is no array.
    """
    if not file.is_file():
        raise ConfigError(f"data file {file} does not exist (current folder: {Path.cwd()})")
    try:
        reads = pyarrow.parquet.read_table if file.suffix.lower() == ".parquet" else pyarrow.feather.read_table
        table = reads(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    beside = [name for name in (options.target, options.client) if name is not None]
    names = [name for name in table.column_names if name not in beside] if options.columns is None else options.columns
    for name in (*names, *beside, *options.shapes, *options.ragged):
        if name not in table.column_names and (name != options.client):
            raise ConfigError(f"{file} has no column {name!r}; it has {listed(table.column_names)}")
    if not names:
        raise ConfigError(f"{file} has no column of inputs")
    found = {name: _array(file, name, table[name], options) for name in names}
    masks = any(isinstance(one, Ragged) and (one.mask or one.lengths) for one in found.values())
    x: Any = InputColumns(found) if len(found) > 1 or masks else next(iter(found.values()))
    y = None if options.target is None else _array(file, options.target, table[options.target], options)
    if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    clients = None
    if options.client is not None and options.client in table.column_names:
        clients = np.asarray(table[options.client].cast(pa.string()).to_pylist(), dtype=np.str_)
    return x, y, clients


def _array(file: Path, name: str, column: pa.ChunkedArray, options: ColumnOptions) -> Any:
    where = f"{file}, column {name!r}"
    if column.null_count:
        raise ConfigError(f"{where}: {column.null_count:,} values are missing; fill them in, or read a table: `csv`")
    cells = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    shape = options.shapes.get(name)
    if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
        values, offsets = _values(where, cells.flatten(), None), np.asarray(cells.offsets).astype(np.int64)
        counts = np.diff(offsets)
        if shape is None:
            return Ragged(values, offsets - offsets[0], **_checked(name, options.ragged.get(name, {})))
        if (counts != math.prod(shape)).any():
            row = int(np.argmax(counts != math.prod(shape)))
            raise ConfigError(f"{where}, row {row + 1}: {counts[row]} values for the shape {list(shape)}")
        return values.reshape(len(cells), *shape, *values.shape[1:])
    if name in options.ragged:
        raise ConfigError(f"{where}: ragged is for lists of different lengths; this is {cells.type}")
    found = _values(where, cells, shape)
    return found[:, None] if found.ndim == 1 and found.dtype.kind == "f" else found


def _checked(name: str, said: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in said:
        if key not in RAGGED:
            raise ConfigError(f"data.ragged.{name}.{key}: unknown key{nearest(key, RAGGED)}; known: {listed(RAGGED)}")
    return said


def _values(where: str, cells: pa.Array, shape: Sequence[int] | None) -> Any:
    """Return cells that are numbers, lists of one length, or bytes, as an array ``[n, ...]``."""
    kind = cells.type
    if cells.null_count:
        raise ConfigError(f"{where}: {cells.null_count:,} values within lists are missing")
    if pa.types.is_fixed_size_list(kind):
        inner = _values(where, cells.flatten(), None)
        return inner.reshape(len(cells), *(shape or (kind.list_size,)), *inner.shape[1:])
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        if shape is None:
            raise ConfigError(
                f"{where}: bytes need their shape: `shapes: {{NAME: [28, 28]}}`; encoded pictures (PNG, JPEG) are not "
                "read: decode them first"
            )
        rows = cells.to_pylist()
        for number, row in enumerate(rows):
            if len(row) != math.prod(shape):
                raise ConfigError(f"{where}, row {number + 1}: {len(row)} bytes for the shape {list(shape)}")
        return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(cells), *shape)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ConfigError(f"{where}: {kind} is no number, list or bytes; text and dates are read as tables are: `csv`")
    return cells.to_numpy(zero_copy_only=False)
