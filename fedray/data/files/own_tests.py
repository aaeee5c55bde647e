"""Files of test sets that are clients' own: which client each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, counted, listed

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
