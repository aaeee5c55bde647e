"""Columns of Parquet and Arrow files as arrays: numbers, lists, bytes with their shape, and encoded pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, listed
from fedray.core.stages import along
from fedray.data.columns.arrays import Columns, by_client, held_out
from fedray.data.columns.holdout import NOTHING, Holdout
from fedray.data.columns.inputs import InputColumns
from fedray.data.columns.paths import need_file
from fedray.data.columns.ragged import Ragged
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.encoding.table import Table
from fedray.data.files.beside import Learnt, cells_of, check_ignored, is_bytes, is_single
from fedray.data.files.folder import columns_of, from_pairs, joined_pairs, ragged_options
from fedray.data.files.own_tests import TestFiles, files_in, named_files, split_rows, tests_of
from fedray.data.files.pictures import PictureOptions, decoded, looks_encoded

KINDS = (".parquet", ".arrow", ".feather")
KINDS_OF = ("shapes", "ragged", "pictures")
"""The options that say what a column is."""


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of files of arrays, and what each is.

    Args:
        target: the column of targets; None: there is none.
        client: the column that names the client of a row; None: each file is a client.
        columns: the columns that are inputs, in their order; None: all others.
        shapes: the shape of one value of a column of bytes, or of lists.
        ragged: options of :class:`Ragged` for columns of lists of different lengths.
        pictures: options of :class:`PictureOptions` for columns of encoded pictures.
        split: the column that says which rows are the clients' own test sets; None: there is none.
        ignore: the columns that are no inputs.
        encode: the inputs that are encoded as the columns of a table are.
        table: the options for reading these; None: there are none.
    """

    target: str | None = None
    client: str | None = None
    columns: Sequence[str] | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ragged: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    split: str | None = None
    ignore: Sequence[str] = ()
    encode: Sequence[str] = ()
    table: Options | None = None

    def __post_init__(self) -> None:
        if self.ignore and self.columns is not None:
            raise ConfigError("ignore: `columns` says already which columns are inputs; leave one of the two out")
        said = {"ignore": self.ignore, **{key: getattr(self, key) for key in KINDS_OF}}
        for name in self.encode:
            if name in (self.target, self.client, self.split):
                raise ConfigError(f"encode: {name!r} is no input, but the target, or it says whose or what a row is")
            if self.columns is not None and name not in self.columns:
                raise ConfigError(f"encode: {name!r} is not among `columns`; name it there, or leave it out here")
            if key := next((key for key, names in said.items() if name in names), None):
                raise ConfigError(f"encode: {name!r} is in `{key}`, too; leave it out of one of them")


@dataclass(frozen=True)
class Read:
    """The rows of one file.

    Args:
        x: inputs, an array or :class:`InputColumns`.
        y: targets; None: there are none.
        clients: the names of the rows' clients; None: the file does not say.
        held: the rows that are of a test set; None: the file does not say.
        taken: the columns that are inputs, and what each was taken for, see :class:`ClientData`.
        rest: columns of one value a row that are no inputs, such as ids, of rows to be predicted.
        order: the inputs, in their order.
        table: those that are yet to be encoded, and not in ``x``; None: there are none.
        there: all columns of the file.
    """

    x: Any
    y: Any
    clients: NDArray[np.str_] | None = None
    held: NDArray[np.bool_] | None = None
    taken: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    order: Sequence[str] = ()
    table: Table | None = None
    there: Sequence[str] = ()

    def where(self, rows: NDArray[np.bool_]) -> Read:
        """Return some of the rows."""
        clients = None if self.clients is None else self.clients[rows]
        table = None if self.table is None else self.table.where_true(rows)
        y = None if self.y is None else self.y[rows]
        return Read(self.x[rows], y, clients, order=self.order, table=table)

    def encoded(self, encoding: Encoding) -> Read:
        """Return the rows with the columns of their table among the inputs.

        Raises:
            ConfigError: a cell that does not fit, with its row.
        """
        if self.table is None:
            return self
        blocks = encoding.blocks(self.table)
        found = {name: blocks[name] if name in blocks else self.x[name] for name in self.order}
        return replace(self, x=columns_of(found, self.order[0] if len(found) == 1 else None), table=None)


def read_arrow(
    path: Path, test: TestFiles, options: ColumnOptions, encoding: Encoding | None = None, holdout: Holdout = NOTHING
) -> Columns:
    """Read a folder with a file for each client, or files whose rows say whose they are.

    Args:
        path: the folder, or the file.
        test: files of test rows.
        options: the columns.
        encoding: of a run that goes on, for columns that are encoded; None: it is learnt from the training rows.
        holdout: the rows that are held out.

    Raises:
        ConfigError: files that are missing, cannot be read, or have other columns.
    """
    files = [path] if path.is_file() else files_in(path, KINDS, named_files(test))
    if options.split is not None and test is not None:
        raise ConfigError("test: the column `split` says which rows are the test set; leave one of the two out")
    if options.client is not None:
        return _of_rows(files, test, options, encoding, holdout)
    if path.is_file():
        raise ConfigError(f"client: {path} is one file: name the column that says whose a row is, or give a folder")
    tests, owners = tests_of(test, files, KINDS)
    found = [read_columns(file, options) for file in along(files, "reading files")]
    held, taken = [read_columns(file, options) for file in tests], found[0].taken
    check_ignored(options.ignore, [one.there for one in (*found, *held)])
    if options.split is not None:
        own = [place for place, one in enumerate(found) if one.held is not None and one.held.any()]
        tests, owners = [files[place] for place in own], own
        held = [found[place].where(_held(found[place])) for place in own]
        found = [one.where(~_held(one)) for one in found]
    names = np.repeat(np.array([file.stem for file in files]), [len(one.x) for one in found])
    found, held, learnt = _all_inputs(_with_held(found, names, holdout), held, options, encoding)
    pairs = [(one.x, one.y) for one in found]
    columns = from_pairs(files, pairs, tests, [(one.x, one.y) for one in held], owners)
    return _told(columns, taken, learnt, holdout)


def _with_held(found: list[Read], names: NDArray[np.str_], holdout: Holdout) -> list[Read]:
    """Return rows of clients, ``names`` of all of them, whose tables know which are held out."""
    parts = np.split(held_out(names, None, holdout), np.cumsum([len(one.x) for one in found])[:-1])
    pairs = zip(found, parts, strict=True)
    return [replace(one, table=one.table and one.table.with_held(part)) for one, part in pairs]


def _all_inputs(
    found: list[Read], held: list[Read], options: ColumnOptions, known: Encoding | None
) -> tuple[list[Read], list[Read], Learnt | None]:
    """Return training and test rows with all their inputs, and the encoding of those that are columns of a table."""
    if options.table is None:
        return found, held, None
    tables, tests = ([one.table for one in reads if one.table is not None] for reads in (found, held))
    learnt = Learnt.of(tables, tests, options.table, known)
    found, held = ([one.encoded(learnt.encoding) for one in reads] for reads in (found, held))
    return found, held, learnt


def _told(columns: Columns, taken: Mapping[str, Any], learnt: Learnt | None, holdout: Holdout) -> Columns:
    columns = replace(columns, taken=taken, holdout=holdout)
    return columns if learnt is None else learnt.told(columns)


def _of_rows(
    files: list[Path], test: TestFiles, options: ColumnOptions, encoding: Encoding | None, holdout: Holdout
) -> Columns:
    """Read files whose rows name their clients, and so do those of the test set, if they have that column."""
    if test is not None and not isinstance(test, str | Path):
        raise ConfigError(
            f"test: one file, or a folder, is needed beside `client: {options.client}`: that column says there, too, "
            "whose own a row is"
        )
    given = named_files(test)
    tests = files_in(given[0], KINDS) if given and given[0].is_dir() else given
    found = [read_columns(file, options) for file in along(files, "reading files")]
    held: list[Read] = [read_columns(file, options) for file in tests]
    taken = found[0].taken
    check_ignored(options.ignore, [one.there for one in (*found, *held)])
    for file, one in zip(files, found, strict=True):
        if one.clients is None:
            raise ConfigError(f"{file} has no column {options.client!r}, which says whose a row is")
    if options.split is not None:
        tests = files
        held, found = [one.where(_held(one)) for one in found], [one.where(~_held(one)) for one in found]
    names = np.concatenate([one.clients for one in found if one.clients is not None])
    found, held, learnt = _all_inputs(_with_held(found, names, holdout), held, options, encoding)
    x, y = joined_pairs(files, [(one.x, one.y) for one in found])
    tests = [file for file, one in zip(tests, held, strict=True) if len(one.x)]
    held = [one for one in held if len(one.x)]
    if not held:
        return _told(by_client(x, y, names), taken, learnt, holdout)
    pairs = [(one.x, one.y) for one in (found[0], *held)]
    own = np.concatenate([_known(one, names) for one in held])
    told = any(one.clients is not None for one in held)
    test = joined_pairs([files[0], *tests], pairs, 1)
    return _told(by_client(x, y, names, test=test, test_clients=own if told else None), taken, learnt, holdout)


def _known(read: Read, names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return for each row of a test set the client whose own it is, '' where it is none that trains."""
    if read.clients is None:
        return np.full(len(read.x), "", dtype=np.str_)
    return np.where(np.isin(read.clients, names), read.clients, "")


def _held(read: Read) -> NDArray[np.bool_]:
    return np.zeros(len(read.x), dtype=np.bool_) if read.held is None else read.held


def read_columns(file: Path, options: ColumnOptions, wanted: Sequence[str] | None = None) -> Read:
    """Read the columns of a file.

    Args:
        file: Parquet, Arrow or Feather.
        options: the columns, and the kind of each.
        wanted: the inputs of rows to be predicted, which may have no targets; empty: all that there are; None: these
            are rows to train on.

    Raises:
        ConfigError: it is missing or cannot be read, it lacks a column, or has one that is no array.
    """
    need_file(file)
    try:
        reads = pyarrow.parquet.read_table if file.suffix.lower() == ".parquet" else pyarrow.feather.read_table
        table = reads(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    beside = [name for name in (options.target, options.client, options.split) if name is not None]
    without = [*beside, *options.ignore]
    names = [name for name in table.column_names if name not in without] if options.columns is None else options.columns
    if wanted:
        names = wanted
    said = [] if wanted is not None else [*options.shapes, *options.ragged, *options.pictures, *options.encode]
    needed = [] if wanted is not None else [name for name in beside if name != options.client]
    for name in (*names, *needed, *said):
        if name not in table.column_names:
            raise ConfigError(f"{file} has no column {name!r}; it has {listed(table.column_names)}")
    if not names:
        raise ConfigError(f"{file} has no column of inputs")
    trains = wanted is None
    encode = [name for name in names if name in options.encode]
    found = {name: _array(file, name, table[name], options, trains=trains) for name in names if name not in encode}
    cells = cells_of(file, {name: table[name] for name in encode}, options.table, trains)
    if cells is not None:
        x = InputColumns(found) if found else np.zeros((table.num_rows, 0))
    else:
        x = columns_of(found, next(iter(found)) if len(found) == 1 else None)
    if wanted is not None:
        beside = [name for name in table.column_names if name not in names and is_single(table[name].type)]
        return Read(x, None, rest={name: table[name] for name in beside}, order=names, table=cells)
    y = None if options.target is None else _array(file, options.target, table[options.target], options, target=True)
    if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    clients = held = None
    if options.client is not None and options.client in table.column_names:
        if lacking := table[options.client].null_count:
            raise ConfigError(f"{file}, column {options.client!r}: {lacking:,} rows do not say whose they are")
        clients = np.asarray(table[options.client].cast(pa.string()).to_pylist(), dtype=np.str_)
    if options.split is not None:
        held = _split(f"{file}, column {options.split!r}", table[options.split])
    taken = _taken(names, table, options)
    return Read(x, y, clients, held, taken, order=names, table=cells, there=table.column_names)


def _taken(names: Sequence[str], table: pa.Table, options: ColumnOptions) -> Mapping[str, Any]:
    """Return what the inputs were taken for, with pictures that nobody had to name."""
    said = {key: {name: one for name, one in getattr(options, key).items() if name in names} for key in KINDS_OF}
    seen = [name for name in names if name not in options.shapes and _holds_bytes(table[name].type)]
    encode = {"encode": list(options.encode)} if options.encode else {}
    return {
        "columns": list(names),
        "target": options.target,
        **said,
        **encode,
        "pictures": {**{name: {} for name in seen}, **said["pictures"]},
    }


def _holds_bytes(kind: pa.DataType) -> bool:
    return is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def _split(where: str, column: pa.ChunkedArray) -> NDArray[np.bool_]:
    if column.null_count:
        raise ConfigError(f"{where}: {column.null_count:,} values are missing; a row is `train` or `test`")
    kind = column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        if not pa.types.is_dictionary(kind):
            raise ConfigError(f"{where}: words (`train`, `test`) or booleans are needed, this is {kind}")
        column = column.cast(pa.string())
    return split_rows(where, np.asarray(column.to_pylist()))


def _array(
    file: Path, name: str, column: pa.ChunkedArray, options: ColumnOptions, target: bool = False, trains: bool = True
) -> Any:
    where = f"{file}, column {name!r}"
    if column.null_count:
        single = trains and is_single(column.type) and not target
        way = f", or have that done as of a table: `encode: [{name}]`" if single else ""
        raise ConfigError(f"{where}: {column.null_count:,} values are missing; fill them in{way}")
    cells = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    shape = options.shapes.get(name)
    if name in options.pictures and shape is not None:
        raise ConfigError(f"{where}: `pictures` is for encoded pictures, `shapes` for other bytes; leave one out")
    if (contents := _encoded(where, cells, name in options.pictures, shape)) is not None:
        return decoded(where, contents, PictureOptions.of(name, options.pictures.get(name, {})), labels=target)
    if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
        values, offsets = _values(where, cells.flatten(), None, trains), np.asarray(cells.offsets).astype(np.int64)
        counts = np.diff(offsets)
        if shape is None:
            said = ragged_options(name, options.ragged.get(name, {}))
            return Ragged(values, offsets - offsets[0], **said)
        if (counts != math.prod(shape)).any():
            row = int(np.argmax(counts != math.prod(shape)))
            raise ConfigError(f"{where}, row {row + 1}: {counts[row]} values for the shape {list(shape)}")
        return values.reshape(len(cells), *shape, *values.shape[1:])
    if name in options.ragged:
        raise ConfigError(f"{where}: ragged is for lists of different lengths; this is {cells.type}")
    found = _values(where, cells, shape, trains)
    return found[:, None] if found.ndim == 1 and found.dtype.kind == "f" else found


def _encoded(where: str, cells: pa.Array, said: bool, shape: Sequence[int] | None) -> list[bytes] | None:
    """Return the cells of a column of encoded pictures; None: it is another column."""
    kind = cells.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        inner = cells.field("bytes")
        if inner.null_count:
            row = int(np.argmax(np.asarray(inner.is_null())))
            raise ConfigError(
                f"{where}, row {row + 1}: there is the path of a picture, and not the picture; write the files' bytes "
                "into the column (`datasets`: cast_column with Image(decode=False), then embed_table_storage)"
            )
        cells, said = inner, True
    elif not is_bytes(kind):
        if said:
            raise ConfigError(f"{where}: pictures is for bytes of encoded pictures (PNG, JPEG); this is {kind}")
        return None
    if not said and (shape is not None or not len(cells) or not looks_encoded(cells[0].as_py())):
        return None
    contents: list[bytes] = cells.to_pylist()
    return contents


def _values(where: str, cells: pa.Array, shape: Sequence[int] | None, trains: bool) -> Any:
    """Return cells that are numbers, lists of one length, or bytes, as an array ``[n, ...]``."""
    kind = cells.type
    if cells.null_count:
        raise ConfigError(f"{where}: {cells.null_count:,} values within lists are missing")
    if pa.types.is_fixed_size_list(kind):
        inner = _values(where, cells.flatten(), None, trains)
        return inner.reshape(len(cells), *(shape or (kind.list_size,)), *inner.shape[1:])
    if is_bytes(kind):
        if shape is None:
            say = ": `shapes: {NAME: [28, 28]}`" if trains else ", which the run does not say"
            raise ConfigError(
                f"{where}: bytes need their shape{say}; those of encoded pictures (PNG, JPEG) "
                "are known by how they begin, which these do not"
            )
        rows = cells.to_pylist()
        for number, row in enumerate(rows):
            if len(row) != math.prod(shape):
                encoded = "; this is an encoded picture: leave the shape out" if looks_encoded(row) else ""
                raise ConfigError(f"{where}, row {number + 1}: {len(row)} bytes for the shape {list(shape)}{encoded}")
        return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(cells), *shape)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        way = (
            "; text and dates are read as those of tables are: name the column in `encode` (text in "
            "`categorical` as well), or leave it out: `ignore`"
            if trains
            else ", as the inputs of this model are"
        )
        raise ConfigError(f"{where}: {kind} is no number, list or bytes{way}")
    return cells.to_numpy(zero_copy_only=False)
