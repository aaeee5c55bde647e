"""Files of rows that are to be predicted, of models of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fedray.core.errors import ConfigError, an, listed
from fedray.data.columns.inputs import InputColumns
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.far import warn_of_far
from fedray.data.encoding.frames import is_table, lacking, table_of
from fedray.data.files.folder import read_npz
from fedray.data.spec import DataSpec
from fedray.predict.kept import Rest
from fedray.run.meaning import Meaning

ARRAYS = (".npy", ".npz")
COLUMNS = (".parquet", ".arrow", ".feather")


def taken_by(meaning: Meaning, rest: Rest) -> Mapping[str, Any]:
    """Return the meaning of the columns of a run's files.

    A checkpoint of an earlier fedray does not say it, but the ``data`` section of the run's config may.

    Raises:
        ConfigError: the section cannot be read.
    """
    if meaning.taken is not None:
        return meaning.taken
    said = rest.section("data")
    name = said.get("name") if isinstance(said, Mapping) else None
    if name == "text":
        return {"text": said}
    return said if name in ("parquet", "folder") else {}


def read_rows(
    path: Path, spec: DataSpec, taken: Mapping[str, Any], encoding: Encoding | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the inputs of a file of arrays, and columns of one value a row that are none, such as ids.

    Args:
        path: .npy, .npz, or Parquet, Arrow and Feather.
        spec: of the inputs of the model.
        taken: the columns of the files that it was trained on, see :class:`fedray.data.ClientData`.
        encoding: of those of them that are encoded as a table's; None: there are none.

    Raises:
        ConfigError: another kind of file, arrays that cannot be read, or columns that are missing.
    """
    kind = path.suffix.lower()
    wanted = list(taken.get("columns") or ())
    if kind in COLUMNS:
        from fedray.data.files.arrow import ColumnOptions, read_columns

        told = {one.name: taken[one.name] for one in fields(ColumnOptions) if taken.get(one.name) is not None}
        if encoding is not None:
            told["table"] = encoding.options
        derived = _derived(taken.get("ragged") or {})
        names = wanted or [column.name for column in spec.columns if column.name not in derived]
        found = read_columns(path, ColumnOptions(**told), names)
        if encoding is not None:
            table, found = found.table, found.encoded(encoding)
            if table is not None:
                warn_of_far(table, encoding)
        return found.x, dict(found.rest)
    if encoding is not None:
        raise ConfigError(
            f"{path}: columns of this model are encoded as a table's ({listed(encoding.order)}); a file called "
            f"{', '.join(COLUMNS)} is needed"
        )
    if kind not in ARRAYS:
        raise ConfigError(
            f"{path}: this model was not trained on tables, but on arrays, {spec.inputs} for each example; a file "
            f"called {', '.join((*ARRAYS, *COLUMNS))} is needed"
        )
    ragged = {name: options for name, options in (taken.get("ragged") or {}).items() if name != "y"}
    try:
        return (read_npz(path, ragged, wanted)[0] if kind == ".npz" else np.load(path, allow_pickle=False)), {}
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None


def _derived(ragged: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the columns that sequences give the model as well: their masks and lengths."""
    return {str(said[key]) for said in ragged.values() for key in ("mask", "lengths") if said.get(key)}


def encoded_rows(rows: Any, spec: DataSpec, taken: Mapping[str, Any], encoding: Encoding) -> tuple[Any, dict[str, Any]]:
    """Return the inputs of rows in memory, of a model that has columns of a table among them, and what is no input.

    Args:
        rows: a dict of columns, a pandas DataFrame, or a pyarrow.Table.
        spec: of the inputs of the model.
        taken: the columns of the files that it was trained on, see :class:`fedray.data.ClientData`.
        encoding: of those that are encoded.

    Raises:
        ConfigError: other rows, columns that are missing, or a cell that does not fit.
    """
    if not is_table(rows):
        raise ConfigError(
            f"rows: {listed(encoding.order)} are encoded as a table's are, so columns by their names are needed: a "
            f"dict, a pandas DataFrame or a pyarrow.Table; this is {an(type(rows).__name__)}"
        )
    there = [str(name) for name in (rows.column_names if hasattr(rows, "column_names") else rows)]
    names = list(taken.get("columns") or (column.name for column in spec.columns))
    if missing := [name for name in names if name not in there]:
        raise ConfigError(lacking("rows", missing, there, names))
    if hasattr(rows, "select"):
        cells = rows.select(encoding.order)
    else:
        cells = {name: rows[name] for name in encoding.order}
    table = table_of(cells, encoding)
    blocks = encoding.blocks(table)
    warn_of_far(table, encoding)
    found = {name: blocks[name] if name in blocks else rows[name] for name in names}
    rest = {} if isinstance(rows, Mapping) else {name: rows[name] for name in there if name not in names}
    return (InputColumns(found) if len(found) > 1 or spec.columns else found[names[0]]), rest
