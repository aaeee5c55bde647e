"""Files of test sets that are clients' own: which client each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, counted, listed
from fedray.data.columns.paths import need_folder

TestFiles = str | Path | Sequence[str | Path] | Mapping[str, str | Path] | None
"""One file of a central test set; or the clients' own: one for each in their order, or by client id."""


def own_files(test: TestFiles, names: Sequence[str] | None) -> list[tuple[Path, int]] | None:
    """Return the files of clients' own test sets, each with the number of its client, in the clients' order.

    >>> own_files({"south": "s_test.csv"}, ["north", "south"])
    [(PosixPath('s_test.csv'), 1)]

    Args:
        test: the files; one file, or none, is nobody's, for which None is returned.
        names: the ids of the clients; None: rows are split over clients, and there are no files of theirs.

    Raises:
        ConfigError: another number of files than of clients, or a file for somebody who is no client.
    """
    if test is None or isinstance(test, str | Path):
        return None
    if not isinstance(test, Mapping | Sequence):
        raise ConfigError(f"test: a file, a list of files, or a mapping of client ids to files is needed, got {test!r}")
    if names is None:
        raise ConfigError(
            "test: rows that a partitioner splits need one test file; with a column partitioner its column says "
            "whose own each row is"
        )
    if isinstance(test, Mapping):
        for name in test:
            if str(name) not in names:
                known = listed(names)
                raise ConfigError(f"test: {name!r} is no client{nearest(str(name), names)}; the clients are {known}")
        by_name = {str(name): file for name, file in test.items()}
        return [(Path(by_name[name]), number) for number, name in enumerate(names) if name in by_name]
    if len(test) != len(names):
        raise ConfigError(
            f"test: {counted(len(test), 'file')} for {counted(len(names), 'client')}; give one for each, in their "
            "order, or name them: {client: file}"
        )
    return [(Path(file), number) for number, file in enumerate(test)]


def named_files(test: TestFiles) -> list[Path]:
    """Return the files that a ``test`` names, or the one file or folder that it is.

    >>> named_files({"south": "s.npz"}), named_files("tests"), named_files(None)
    ([PosixPath('s.npz')], [PosixPath('tests')], [])
    """
    if test is None or isinstance(test, str | Path):
        return [] if test is None else [Path(test)]
    return [Path(file) for file in (test.values() if isinstance(test, Mapping) else test)]


def files_in(folder: Path, kinds: tuple[str, ...], without: Sequence[Path] = ()) -> list[Path]:
    """List the files of one kind in a folder, sorted by name, without some of them.

    Raises:
        ConfigError: no such folder, no such file in it, or files of several kinds.
    """
    need_folder(folder)
    skip = {file.resolve() for file in without}
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in kinds and file.resolve() not in skip]
    if not found:
        raise ConfigError(
            f"data folder {folder} has no {' or '.join('*' + kind for kind in kinds)} file; one per client is expected"
        )
    if len({file.suffix.lower() for file in found}) > 1:
        raise ConfigError(f"data folder {folder} has files of several kinds ({', '.join(kinds)}); keep one kind")
    return found


def tests_of(test: TestFiles, files: Sequence[Path], kinds: tuple[str, ...]) -> tuple[list[Path], list[int] | None]:
    """Return the test files of clients that have a file each, and the number of the client whose own each is.

    It is -1 for a file in a folder of tests that is named as no client's is; of one file, which is nobody's, there are
    no numbers.

    Raises:
        ConfigError: as :func:`own_files` and :func:`files_in`.
    """
    names = [file.stem for file in files]
    if (own := own_files(test, names)) is not None:
        return [file for file, _ in own], [number for _, number in own]
    held = named_files(test)
    if not held or not held[0].is_dir():
        return held, None
    found = files_in(held[0], kinds)
    number = {name: place for place, name in enumerate(names)}
    return found, [number.get(file.stem, -1) for file in found]


def split_rows(where: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows a column of splits sets aside for tests: ``test`` or ``train``, or true and false.

    >>> split_rows("a.parquet, column 'fold'", np.array(["train", "Test", "train"]))
    array([False,  True, False])

    Raises:
        ConfigError: it has other values, or all of its rows are of the test set.
    """
    if values.dtype.kind == "b":
        held = values
    else:
        words = np.char.lower(values.astype(np.str_))
        held = words == "test"
        if not (held | (words == "train")).all():
            other = sorted({str(value) for value in values[~(held | (words == "train"))]})
            raise ConfigError(
                f"{where}: a row is `train` or `test` (or false or true), this column has {listed(other)}; leave such "
                "rows out of the file, or name them as one of the two"
            )
    if held.all():
        raise ConfigError(f"{where}: all rows are of the test set, and none is left to train on")
    return held
