"""A folder with one file per client."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, listed
from fedray.core.stages import along
from fedray.data.columns.arrays import Columns, by_client
from fedray.data.columns.checks import need_folder
from fedray.data.columns.inputs import InputColumns, joined
from fedray.data.columns.ragged import Ragged
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.fit import TestTables, read_tables
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_table

KINDS = (".npz", ".parquet")
OFFSETS = "_offsets"
"""The end of the name of an array that tells where the sequences of another one begin."""


def list_clients(folder: Path, kinds: tuple[str, ...], test: Path | None = None) -> list[Path]:
    """List the files of one kind in a folder, sorted by name, without the test file.

    Raises:
        ConfigError: no such folder, no such file in it, or files of several kinds.
    """
    need_folder(folder)
    skip = None if test is None else test.resolve()
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in kinds and file.resolve() != skip]
    if not found:
        raise ConfigError(
            f"data folder {folder} has no {' or '.join('*' + kind for kind in kinds)} file; one per client is expected"
        )
    if len({file.suffix.lower() for file in found}) > 1:
        raise ConfigError(f"data folder {folder} has files of several kinds ({', '.join(kinds)}); keep one kind")
    return found


def read_folder(folder: Path, options: Options | None, test: Path | None, encoding: Encoding | None = None) -> Columns:
    """Read a file per client; see ``FederatedData.from_folder``."""
    files = list_clients(folder, KINDS, test)
    tests = [] if test is None else [test] if not test.is_dir() else list_clients(test, KINDS)
    owners = _owners(files, tests) if test is not None and test.is_dir() else None
    if tests and tests[0].suffix.lower() != files[0].suffix.lower():
        raise ConfigError(f"test: {tests[0]} must be a {files[0].suffix} file, as the clients' files are")
    if files[0].suffix.lower() == ".parquet":
        if options is None:
            raise ConfigError("target: Parquet files need the name of the target column")
        held_out = TestTables([read_table(file, options.reading(file)) for file in tests], owners)
        tables = [read_table(file, options.reading(file)) for file in along(files, "reading tables")]
        return read_tables(tables, held_out, options, encoding=encoding)
    if options is not None:
        raise ConfigError("target: NPZ files hold arrays x and y and have no target column; leave it out")
    pairs = [read_npz(file) for file in along(files, "reading files")]
    return from_pairs(files, pairs, tests, [read_npz(file) for file in tests], owners)


def _owners(files: list[Path], tests: list[Path]) -> list[int]:
    """Return the number of the client whose own each test file is, by its name; -1 for nobody's."""
    number = {file.stem: place for place, file in enumerate(files)}
    return [number.get(test.stem, -1) for test in tests]


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
    expected = _arrays(*pairs[0])
    for file, (x, y) in zip([*files, *tests], [*pairs, *held_out], strict=True):
        if len(x) == 0:
            raise ConfigError(f"{file} has no rows, so its client would be empty; leave it out or give it some")
        arrays = _arrays(x, y)
        if arrays.keys() != expected.keys():
            raise ConfigError(f"{file} has the arrays {listed(arrays)}, but {files[0]} has {listed(expected)}")
        for name, array in arrays.items():
            found, first = _row(array), _row(expected[name])
            if found != first:
                raise ConfigError(f"{file}: {name} has rows {found}, but {files[0]} has {first}")

    def whole(found: list[tuple[Any, NDArray[Any] | None]]) -> tuple[Any, NDArray[Any] | None]:
        targets = [y for _, y in found if y is not None]
        return joined([x for x, _ in found]), joined(targets) if targets else None

    return by_client(
        *whole(pairs),
        np.repeat(np.arange(len(files)), [len(x) for x, _ in pairs]),
        test=whole(held_out) if tests else None,
        test_clients=None if owners is None else np.repeat(np.array(owners), [len(x) for x, _ in held_out]),
        ids=[file.stem for file in files],
    )


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


def read_npz(file: Path) -> tuple[Any, Any]:
    """Read the inputs and the targets ``y`` of an NPZ file; pickled objects in it are refused.

    An array ``ids`` with an array ``ids_offsets`` beside it has sequences of different lengths: see :class:`Ragged`.

    Inputs are the array ``x``, or, where there is none, all arrays but ``y``: columns by their names.  Without ``y``
    there are no targets.

    Raises:
        ConfigError: missing or unreadable file, no inputs, or different lengths.
    """
    if not file.is_file():
        raise ConfigError(f"data file {file} does not exist (current folder: {Path.cwd()})")
    try:
        with np.load(file, allow_pickle=False) as archive:
            found: dict[str, Any] = {name: archive[name] for name in archive}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} cannot be read as NPZ without pickled objects: {error}") from None
    for name in [name for name in found if f"{name}{OFFSETS}" in found]:
        try:
            found[name] = Ragged(found[name], found.pop(f"{name}{OFFSETS}"))
        except ConfigError as error:
            raise ConfigError(f"{file}: {name}: {error}") from None
    y = found.get("y")
    names = ["x"] if "x" in found else [name for name in found if name != "y"]
    if not names:
        raise ConfigError(f"{file} must hold inputs: an array x, or several by their names; it has: {listed(found)}")
    if names == ["x"] and y is None and len(found) > 1:
        raise ConfigError(f"{file} must hold arrays x and y; it has: {listed(found)}")
    found = {name: found[name] for name in (*names, *(["y"] if y is not None else []))}
    if any(one.ndim == 0 for one in found.values()) or len({len(one) for one in found.values()}) > 1:
        said = " and ".join(f"{name} {one.shape}" for name, one in found.items())
        raise ConfigError(f"{file}: {said}: they need one row per example each")
    return found["x"] if names == ["x"] else InputColumns({name: found[name] for name in names}), y
