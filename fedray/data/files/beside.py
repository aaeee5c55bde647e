"""Columns of tables beside arrays: numbers to be scaled and filled in, and categories, each an input of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed
from fedray.data.columns.arrays import Columns
from fedray.data.encoding import questions
from fedray.data.encoding.advice import Advice
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.fit import fit, found_in, taken_for, unseen_in
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import table_beside
from fedray.data.encoding.table import Table
from fedray.data.sites import NotedHere

ENCODED = ("categorical", "ordinal", "missing", "missing_values", "standardize", "unseen")
"""The options of tables that columns beside arrays have."""


def encoding_options(encode: Sequence[str], said: Mapping[str, Any]) -> Options | None:
    """Return the options for reading the columns that are encoded; None: there are none.

    >>> encoding_options(["age", "sex"], {"categorical": ["sex"]}).declared
    {'sex': None}
    >>> encoding_options([], {"categorical": ["sex"]})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: categorical: it is said of columns that are encoded as those of tables; name them...

    Args:
        encode: the names of the columns.
        said: options of :data:`ENCODED`.

    Raises:
        ConfigError: a name that is there twice, or an option of a column that is not encoded.
    """
    if len(set(encode)) != len(encode):
        raise ConfigError(f"encode: expected names of columns, each once, got {list(encode)!r}")
    for key, value in said.items():
        if not encode and value != getattr(Options(""), key):
            raise ConfigError(
                f"{key}: it is said of columns that are encoded as those of tables; name them: `encode: [age, sex]`"
            )
        for name in value if key in ("categorical", "ordinal", "missing") and isinstance(value, Mapping | list) else ():
            if name not in encode:
                raise ConfigError(
                    f"{key}: {name!r} is not among the columns of `encode`{nearest(str(name), encode)}; name it there, "
                    "or leave it out here"
                )
    return Options("", "regression", columns=list(encode), **said) if encode else None


def check_single(where: str, kind: pa.DataType) -> None:
    """Raise ConfigError for a column that has no number, word or time in each row."""
    if not is_single(kind):
        raise ConfigError(f"{where}: `encode` is for columns of one number, word or date in each row; this is {kind}")


def cells_of(file: Path, columns: Mapping[str, pa.ChunkedArray], options: Options | None, trains: bool) -> Table | None:
    """Return the columns of a file that are to be encoded, as a table; None: there are none.

    Args:
        file: the file.
        columns: the columns, by name.
        options: the options for reading them.
        trains: they are of rows to train on, and not to be predicted.

    Raises:
        ConfigError: a row has something else in one than a number, word or time.
    """
    if options is None or not columns:
        return None
    for name, column in columns.items():
        check_single(f"{file}, column {name!r}", column.type)
    reading = options.reading(file)
    return table_beside(file, columns, reading if trains else replace(reading, advice=Advice("rows")))


def is_single(kind: pa.DataType) -> bool:
    """Tell if a column has a number, a word, a time or nothing in each row."""
    return not (pa.types.is_nested(kind) or is_bytes(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Tell if a column has bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


@dataclass(frozen=True)
class Learnt:
    """The encoding of columns beside arrays, and what was found in them.

    Args:
        encoding: the encoding.
        warnings: things in the columns that look like a mistake.
        notes: lines for the log.
        asked: the questions that it was learnt by.
    """

    encoding: Encoding
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    asked: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, training: Sequence[Table], tests: Sequence[Table], options: Options, known: Encoding | None) -> Learnt:
        """Learn it from training tables, or take that of a run.

        Args:
            training: the tables of clients' rows, of which some may be held out.
            tests: those of test rows.
            options: the options for reading them.
            known: the encoding of a run, which is taken as it is; None: it is learnt.

        Raises:
            ConfigError: a cell that cannot be read, a column without any value, or a run's encoding of another kind.
        """
        here = NotedHere(training)
        outlines = here.each(questions.outline)
        if known is None:
            found = replace(fit(here.each, outlines, options), beside=True)
        else:
            found = known.need(options)
        notes = taken_for(found) + found_in(outlines, found)
        if options.unseen == "other" or any(outline.held for outline in outlines):
            unseen = partial(questions.unseen, encoding=found)
            counts = [*here.each(unseen), *map(unseen, tests)]
            notes += unseen_in([*outlines, *map(questions.outline, tests)], counts, found)
        return cls(found, found.warnings, notes, here.asked)

    def told(self, columns: Columns) -> Columns:
        """Return rows that know how they were encoded."""
        warnings, notes = (*columns.warnings, *self.warnings), (*columns.notes, *self.notes)
        return replace(columns, encoding=self.encoding.to_json(), warnings=warnings, notes=notes, asked=self.asked)


def check_ignored(ignore: Sequence[str], files: Sequence[Sequence[str]]) -> None:
    """Raise ConfigError for a name that is a column of no file.

    Args:
        ignore: the names.
        files: the columns of each file.
    """
    every = dict.fromkeys(name for columns in files for name in columns)
    for name in ignore:
        if name not in every:
            raise ConfigError(
                f"ignore: {name!r} is a column of no file{nearest(name, every)}; their columns: {listed(every)}"
            )
