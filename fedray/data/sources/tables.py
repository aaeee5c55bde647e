"""The common part of sources of tables: options for reading rows, and the use of a run's encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedray.core.errors import ConfigError
from fedray.data.columns.base import ClientData
from fedray.data.columns.holdout import Holdout
from fedray.data.columns.rows import Examples
from fedray.data.sites import Sites, here
from fedray.data.sources.base import Source, split_seed
from fedray.data.spec import DataSpec

if TYPE_CHECKING:
    from fedray.data.encoding.fit import Ask
    from fedray.data.encoding.options import Options
    from fedray.data.encoding.table import Table
    from fedray.data.partition import Partitioner


@dataclass(frozen=True, kw_only=True)
class EncodedSource(Source):
    """A source whose rows are encoded, in a run that goes on as they were before."""

    def load(
        self, seed: int, sites: Callable[[], Sites] = here, encoding: Mapping[str, Any] | None = None
    ) -> ClientData:
        with self._keyed():
            return self.read(split_seed(self, seed), encoding)

    @contextmanager
    def _keyed(self) -> Iterator[None]:
        """Give what is said of one of its options the option's whole key in a config."""
        try:
            yield
        except ConfigError as error:
            key = str(error).partition(": ")[0]
            known = {*(option.name for option in fields(self)), "csv.files"}
            if key in known:
                raise ConfigError(f"data.{error}") from error
            raise

    def read(self, seed: int, encoding: Mapping[str, Any] | None = None) -> ClientData:
        """Read the data with local held-out rows, by a run's encoding, or one that is learnt from the other rows."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TableSource(EncodedSource):
    """A source of tables.  pyarrow is imported only where a table is read, as that takes a third of a second.

    Args:
        test: file of the held-out test set.
        task: auto, classification or regression.
        categorical: ``[columns]`` or ``{column: [values]}``; of many values ``{column: {top: 20}}`` or ``{hash: 64}``.
        classes: class names in the order of their indices.
        standardize: centre and scale numeric columns by federated sums.
        ignore: columns that are no inputs, such as the ids of patients; they leave no table.
        columns: the columns that are inputs; by default all.
        ordinal: ``{column: [low, mid, high]}``: levels as numbers.
        missing: ``{column: 0}``, or ``{column: [0, -9]}``: values that stand for a missing one.
        missing_columns: error, or impute: fill in columns that a file lacks.
        missing_values: impute: the federated mean, or indicator: beside it an input that is 1 where one is missing.
        missing_target: error, or drop: leave out rows without a target.
        unseen: error, or other: take values of no known category for ``other``, else for missing ones.
        csv: the way text is written, where it is not found: delimiter, decimal, thousands, encoding, quote, dates,
            missing, sheet, and under ``files`` what differs in single files.
    """

    test: str | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    categorical: Any = None
    classes: list[str] | None = None
    standardize: bool = True
    ignore: list[str] = field(default_factory=list)
    columns: list[str] | None = None
    ordinal: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, Any] = field(default_factory=dict)
    missing_columns: Literal["error", "impute"] = "error"
    missing_values: Literal["impute", "indicator"] = "impute"
    missing_target: Literal["error", "drop"] = "error"
    unseen: Literal["error", "other"] = "error"
    csv: Any = None

    def read_test(self, encoding: Mapping[str, Any]) -> tuple[Examples | None, DataSpec]:
        """Return the test set and the meaning of an example, from the test file and an encoding alone.

        Raises:
            ConfigError: the file cannot be read, or the encoding does not fit it or the options.
        """
        from fedray.data.encoding.encoding import Encoding
        from fedray.data.encoding.saved import encoded_test

        read = Encoding.from_json(encoding)
        tests = self.tests()
        return encoded_test(tests, self.options(), read, self.column()) if tests else None, read.spec

    def tests(self) -> list[Path]:
        """Return the files of the central test set, in their order."""
        return [] if self.test is None else [Path(self.test)]

    @contextmanager
    def opened(self, seed: int, sites: Callable[[], Sites] = here) -> Iterator[tuple[list[str], Ask]]:
        """Open the training tables where they lie: the names of their sites, and questions to them.

        Rows that a column assigns to clients are a site for each of these.  Tables know which rows are held out, unless
        whose rows are cannot be told.

        Args:
            seed: the run's seed.
            sites: see :meth:`load`.

        Raises:
            ConfigError: a table cannot be read; a site cannot be reached.
        """
        from fedray.data.encoding.clients import with_held
        from fedray.data.encoding.reading import read_table

        options, files, partitioner = self.options(), self.files(), self.partitioner()
        names, tables = list(files), [read_table(path, options.reading(path)) for path in files.values()]
        if not tables:
            raise ConfigError("there is no training table")
        ids = names if partitioner is None else getattr(self, "ids", None)
        with suppress(ConfigError):
            held = Holdout(self.holdout, split_seed(self, seed))
            tables = with_held(tables, options, held, ids=ids, partitioner=partitioner)
        if (column := self.column()) is not None:
            names, tables = by_column(tables, column)
        yield names, lambda question: [question(table) for table in tables]

    def options(self) -> Options:
        """Return how its tables are to be read."""
        from fedray.data.encoding.options import Options

        target = getattr(self, "target", None)
        if target is None:
            raise ConfigError("data.target: the name of the target column is needed")
        said = {field.name: getattr(self, field.name) for field in fields(Options) if field.name != "target"}
        try:
            return Options(target, **said)
        except ConfigError as error:
            raise ConfigError(f"data.{error}") from None

    def column(self) -> str | None:
        """Return the column that names the client of a row, if there is one."""
        return getattr(self.partitioner(), "column", None)

    def partitioner(self) -> Partitioner | None:
        """Return what says whose each row is; None: each file is a client."""
        return None

    def files(self) -> Mapping[str, Path]:
        """Return the training files that this process may read, by their names in a fingerprint."""
        return {}


def by_column(tables: Sequence[Table], column: str) -> tuple[list[str], list[Table]]:
    """Cut tables by the values of a column, and return these and a table for each.

    Raises:
        ConfigError: a table has no such column, or several tables have rows of one value.
    """
    found: dict[str, Table] = {}
    for table in tables:
        if column not in table.columns:
            raise ConfigError(f"{table.path} has no column {column!r}, which names the client of a row")
        values = [value or "" for value in table.text(column)]
        for name in sorted(set(values)):
            if name in found:
                raise ConfigError(f"{table.path}: rows of {name!r} are in {found[name].path}, too; join the two files")
            found[name] = table.where_true(np.array([value == name for value in values]))
    return list(found), list(found.values())
