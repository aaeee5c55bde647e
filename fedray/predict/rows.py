"""Files of rows that are to be predicted, of models of arrays."""

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
from fedray.run.meaning import Meaning
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


def taken_by(meaning: Meaning, rest: Rest) -> Mapping[str, Any]:
    """Return the meaning of the columns of a run's files.

    A checkpoint of an earlier fedray does not say it, but the ``data`` section of the run's config may.

    Raises:
        ConfigError: the section cannot be read.
    """
    if meaning.taken is not None:
        return meaning.taken
    said = rest.section("data")
    return said if isinstance(said, Mapping) and said.get("name") in ("parquet", "folder") else {}


def read_rows(path: Path, spec: DataSpec, taken: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the inputs of a file of arrays, and columns of one value a row that are none, such as ids.

    Args:
        path: .npy, .npz, or Parquet, Arrow and Feather.
        spec: of the inputs of the model.
        taken: the columns of the files that it was trained on, see :class:`fedray.data.ClientData`.

    Raises:
        ConfigError: another kind of file, arrays that cannot be read, or columns that are missing.
    """
    kind = path.suffix.lower()
    wanted = list(taken.get("columns") or ())
    if kind in COLUMNS:
        from fedray.data.files.arrow import ColumnOptions, read_columns

        told = {field.name: taken[field.name] for field in fields(ColumnOptions) if taken.get(field.name) is not None}
        derived = _derived(taken.get("ragged") or {})
        names = wanted or [column.name for column in spec.columns if column.name not in derived]
        found = read_columns(path, ColumnOptions(**told), names)
        return found.x, dict(found.rest)
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
