"""Files of rows that are to be predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fedray.core.errors import ConfigError
from fedray.data.files.folder import read_npz
from fedray.data.spec import DataSpec
from fedray.predict.kept import Rest
from fedray.rundir.folder import RunFolder

ARRAYS = (".npy", ".npz")
COLUMNS = (".parquet", ".arrow", ".feather")


def said_of_data(model: Path) -> Mapping[str, Any]:
    """Return the ``data`` section of a run folder; of an export, or a run whose data is Python's, an empty one.

    Raises:
        ConfigError: it cannot be read.
    """
    said = Rest.of(RunFolder(model)).section("data") if model.is_dir() else None
    return said if isinstance(said, Mapping) else {}


def read_rows(path: Path, spec: DataSpec | None = None, said: Mapping[str, Any] | None = None) -> Any:
    """Return what a predictor takes: of a file of arrays its inputs, of another its path, to be read as a table.

    Inputs of an NPZ file are those of one that a model is trained on: ``x``, or columns by their names; so are those of
    Parquet and Arrow, with the pictures, shapes and sequences that the run's ``data`` section has.

    Args:
        path: the file.
        spec: of the inputs of a model of arrays; None: it is one of tables.
        said: the ``data`` section of the run.

    Raises:
        ConfigError: arrays that cannot be read.
    """
    said = said or {}
    kind = path.suffix.lower()
    if kind in COLUMNS and spec is not None:
        from fedray.data.files.arrow import ColumnOptions, read_columns

        told = {field.name: said[field.name] for field in fields(ColumnOptions) if said.get(field.name) is not None}
        options = ColumnOptions(**told if said.get("name") == "parquet" else {})
        return read_columns(path, options, [column.name for column in spec.columns]).x
    if kind not in ARRAYS:
        return path
    ragged = {name: options for name, options in (said.get("ragged") or {}).items() if name != "y"}
    try:
        return read_npz(path, ragged)[0] if kind == ".npz" else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
