"""The common part of sources of tables: options for reading rows, and the use of a run's encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedray.core.errors import ConfigError
from fedray.data.columns.base import ClientData
from fedray.data.columns.rows import Examples
from fedray.data.sites import Sites, here
from fedray.data.sources.base import Source, split_seed
from fedray.data.spec import DataSpec

if TYPE_CHECKING:
    from fedray.data.encoding.options import Options


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
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
        missing: ``{column: [0]}``: values that stand for a missing one.
        missing_columns: error, or impute: fill in columns that a file lacks.
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
    missing_target: Literal["error", "drop"] = "error"
    unseen: Literal["error", "other"] = "error"
    csv: Any = None

    def load(
        self, seed: int, sites: Callable[[], Sites] = here, encoding: Mapping[str, Any] | None = None
    ) -> ClientData:
        seed = split_seed(self, seed)
        return self.read(seed, encoding).with_holdout(self.holdout, seed)

    def read(self, seed: int, encoding: Mapping[str, Any] | None = None) -> ClientData:
        raise NotImplementedError

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

    def options(self) -> Options:
        """Return how its tables are to be read."""
        from fedray.data.encoding.options import Options

        target = getattr(self, "target", None)
        if target is None:
            raise ConfigError("target: the name of the target column is needed")
        return Options(
            target, **{field.name: getattr(self, field.name) for field in fields(Options) if field.name != "target"}
        )

    def column(self) -> str | None:
        """Return the column that names the client of a row, if there is one."""
        return None

    def files(self) -> Mapping[str, Path]:
        """Return the training files that this process may read, by their names in a fingerprint."""
        return {}
