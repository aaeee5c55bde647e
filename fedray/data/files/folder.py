"""A folder with one file per client."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed, quoted, short
from fedray.core.stages import along
from fedray.data.columns.arrays import Columns, by_client
from fedray.data.columns.holdout import NOTHING, Holdout
from fedray.data.columns.inputs import InputColumns, joined
from fedray.data.columns.paths import need_file
from fedray.data.columns.ragged import Ragged
from fedray.data.encoding.clients import TestTables, read_tables
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_table
from fedray.data.files.own_tests import TestFiles, files_in, named_files, tests_of

KINDS = (".npz", ".parquet")
OFFSETS = "_offsets"
"""The end of the name of an array that tells where the sequences of another one begin."""
RAGGED = ("pad", "length", "mask", "lengths")
"""The options of :class:`Ragged`."""


def read_folder(
    folder: Path,
    options: Options | None,
    test: TestFiles,
    encoding: Encoding | None = None,
    ragged: Mapping[str, Mapping[str, Any]] | None = None,
    holdout: Holdout = NOTHING,
) -> Columns:
    """Read a file per client; see ``FederatedData.from_folder``."""
    files = files_in(folder, KINDS, named_files(test))
    tests, owners = tests_of(test, files, KINDS)
    if tests and (other := next((one for one in tests if one.suffix.lower() != files[0].suffix.lower()), None)):
        raise ConfigError(f"test: {other} must be a {files[0].suffix} file, as the clients' files are")
    if files[0].suffix.lower() == ".parquet":
        if options is None:
            raise ConfigError("target: Parquet files need the name of the target column")
        if ragged:
            raise ConfigError(
                "ragged: Parquet files of `folder` are tables; lists of different lengths are read by "
                "`data: {name: parquet, path: ...}`"
            )
        held_out = TestTables([read_table(file, options.reading(file)) for file in tests], owners)
        tables = [read_table(file, options.reading(file)) for file in along(files, "reading tables")]
        return read_tables(tables, held_out, options, seed=holdout.seed, holdout=holdout.fraction, encoding=encoding)
    if options is not None:
        raise ConfigError("target: NPZ files hold arrays x and y and have no target column; leave it out")
    pairs = [read_npz(file, ragged) for file in along(files, "reading files")]
    said = {name: one for name, one in (ragged or {}).items() if name != "y"}
    taken = {"columns": list(_arrays(pairs[0][0], None)), "ragged": said}
    columns = from_pairs(files, pairs, tests, [read_npz(f, ragged) for f in tests], owners)
    return replace(columns, taken=taken, holdout=holdout)


def ragged_options(name: str, said: Any) -> Mapping[str, Any]:
    """Return the options of :class:`Ragged` for a column.

    Raises:
        ConfigError: an unknown key, or no section.
    """
    if not isinstance(said, Mapping):
        raise ConfigError(
            f"data.ragged.{name}: a section such as {{length: 128, mask: mask}} is needed, got {quoted(said)}"
        )
    for key in said:
        if key not in RAGGED:
            raise ConfigError(
                f"data.ragged.{name}.{short(key)}: unknown key{nearest(str(key), RAGGED)}; known: {listed(RAGGED)}"
            )
    return said


def columns_of(found: Mapping[str, Any], alone: str | None = None) -> Any:
    """Return columns as inputs: one that goes alone as it is, unless it gives the model a mask or lengths as well."""
    one = None if alone is None else found[alone]
    if one is None or (isinstance(one, Ragged) and (one.mask or one.lengths)):
        return InputColumns(found)
    return one


def from_pairs(
    files: list[Path],
    pairs: list[tuple[Any, Any]],
    tests: list[Path],
    held_out: list[tuple[Any, Any]],
    owners: list[int] | None,
) -> Columns:
    """Return the rows of clients, of which each has a file, by inputs and targets of the files.

    Raises:
        ConfigError: files that are empty, or do not fit together.
    """
    for file, (x, _) in zip([*files, *tests], [*pairs, *held_out], strict=True):
        if len(x) == 0:
            raise ConfigError(f"{file} has no rows, so its client would be empty; leave it out or give it some")
    x, y = joined_pairs(files, pairs)
    return by_client(
        x,
        y,
        np.repeat(np.arange(len(files)), [len(x) for x, _ in pairs]),
        test=joined_pairs([files[0], *tests], [pairs[0], *held_out], 1) if tests else None,
        test_clients=None if owners is None else np.repeat(np.array(owners), [len(x) for x, _ in held_out]),
        ids=[file.stem for file in files],
    )


def joined_pairs(files: Sequence[Path], pairs: Sequence[tuple[Any, Any]], skip: int = 0) -> tuple[Any, Any]:
    """Return inputs and targets of files one after the other.

    Args:
        files: the files.
        pairs: the inputs and the targets of each.
        skip: leave that many of them out at the beginning, once the others are compared with the first.

    Raises:
        ConfigError: files with other arrays than the first.
    """
    expected = _arrays(*pairs[0])
    for file, (x, y) in zip(files, pairs, strict=True):
        arrays = _arrays(x, y)
        if arrays.keys() != expected.keys():
            raise ConfigError(f"{file} has the arrays {listed(arrays)}, but {files[0]} has {listed(expected)}")
        for name, array in arrays.items():
            found, first = _row(array), _row(expected[name])
            if found != first:
                raise ConfigError(f"{file}: {name} has rows {found}, but {files[0]} has {first}")
    targets = [y for _, y in pairs[skip:] if y is not None]
    return joined([x for x, _ in pairs[skip:]]), joined(targets) if targets else None


def _row(array: Any) -> str:
    """Return a row of an array in words."""
    if isinstance(array, Ragged):
        more = f" {array.shape[2:]}" if array.ndim > 2 else ""
        return f"of different lengths{more} of {array.dtype}"
    return f"{array.shape[1:]} of {array.dtype}"


def _arrays(x: Any, y: Any) -> dict[str, Any]:
    """Return the arrays of an NPZ file by their names."""
    inputs = x.columns if isinstance(x, InputColumns) else {"x": x}
    return inputs if y is None else {**inputs, "y": y}


def read_npz(
    file: Path, ragged: Mapping[str, Mapping[str, Any]] | None = None, wanted: Sequence[str] = ()
) -> tuple[Any, Any]:
    """Read the inputs and the targets ``y`` of an NPZ file; pickled objects in it are refused.

    An array ``ids`` with an array ``ids_offsets`` beside it has sequences of different lengths: see :class:`Ragged`.

    Inputs are the array ``x``, or, where there is none, all arrays but ``y``: columns by their names.  Without ``y``
    there are no targets.

    Args:
        file: the file.
        ragged: options of :class:`Ragged` for arrays with offsets, by their names.
        wanted: the inputs of rows to be predicted, whatever else is there; empty: as above.

    Raises:
        ConfigError: missing or unreadable file, no inputs, or different lengths.
    """
    need_file(file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            found: dict[str, Any] = {name: archive[name] for name in archive}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} cannot be read as NPZ without pickled objects: {error}") from None
    said = ragged or {}
    for name in said:
        if f"{name}{OFFSETS}" not in found or name not in found:
            raise ConfigError(
                f"{file}: data.ragged.{name}: there are no arrays {name} and {name}{OFFSETS}; it has: {listed(found)}"
            )
    for name in [name for name in found if f"{name}{OFFSETS}" in found]:
        try:
            options = ragged_options(name, said.get(name, {}))
            found[name] = Ragged(found[name], found.pop(f"{name}{OFFSETS}"), **options)
        except ConfigError as error:
            raise ConfigError(f"{file}: {name}: {error}") from None
    if lacking := [name for name in wanted if name not in found]:
        raise ConfigError(f"{file} has no array {listed(map(repr, lacking))}; it has: {listed(found)}")
    if wanted:
        found = {name: found[name] for name in wanted}
    y = found.get("y")
    names = list(wanted) if wanted else ["x"] if "x" in found else [name for name in found if name != "y"]
    if not names:
        raise ConfigError(f"{file} must hold inputs: an array x, or several by their names; it has: {listed(found)}")
    if names == ["x"] and y is None and len(found) > 1:
        raise ConfigError(f"{file} must hold arrays x and y; it has: {listed(found)}")
    found = {name: found[name] for name in (*names, *(["y"] if y is not None else []))}
    if any(one.ndim == 0 for one in found.values()) or len({len(one) for one in found.values()}) > 1:
        shapes = " and ".join(f"{name} {one.shape}" for name, one in found.items())
        raise ConfigError(f"{file}: {shapes}: they need one row per example each")
    return columns_of({name: found[name] for name in names}, "x" if names == ["x"] else None), y
