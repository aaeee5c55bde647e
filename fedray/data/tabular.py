"""Tables of several silos to one encoding of inputs and targets, learnt from sums that the silos may share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.config import ConfigError, nearest
from fedray.data.checks import check_ids, tensor
from fedray.data.csv_file import Table
from fedray.data.federated import FederatedData
from fedray.data.partition import Partitioner, assign_rows
from fedray.data.spec import DataSpec
from fedray.data.store import Examples

Task = Literal["auto", "classification", "regression"]

LABEL_LIMIT = 20

_WHOLE = re.compile("-?[0-9]+")


@dataclass(frozen=True)
class Sums:
    """What a silo tells of its numeric columns: per column a count, a sum, and a sum of squares about ``center``.

    Sums merge by addition, so the federated mean and variance need no row of any silo.  They are taken twice: about
    zero, which gives the mean, then about that mean, which gives the variance without the cancellation that sums
    about zero suffer where a column's mean is large.

    Args:
        center: what was subtracted first, float64 ``[k]``; equal in all silos.
        count: values that are not missing, ``[k]``.
        total: sum of ``value - center``, ``[k]``.
        squares: sum of ``(value - center)**2``, ``[k]``.
    """

    center: NDArray[np.float64]
    count: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @staticmethod
    def of(values: NDArray[np.float64], center: NDArray[np.float64]) -> Sums:
        """The sums of a silo's rows ``[m, k]``, in which NaN is missing."""
        shifted = values - center
        count = (~np.isnan(shifted)).sum(axis=0).astype(np.float64)
        return Sums(center, count, np.nansum(shifted, axis=0), np.nansum(np.square(shifted), axis=0))

    def merge(self, other: Sums) -> Sums:
        """The sums of both silos together."""
        count, total = self.count + other.count, self.total + other.total
        return Sums(self.center, count, total, self.squares + other.squares)

    def mean(self) -> NDArray[np.float64]:
        """Mean of each column, ``[k]``."""
        return self.center + self.total / self.count

    def deviation(self) -> NDArray[np.float64]:
        """Population standard deviation, ``[k]``; exactly 0 for a constant column if ``center`` is its mean."""
        variance = self.squares / self.count - np.square(self.total / self.count)
        return np.sqrt(np.maximum(variance, 0.0))


def federated_moments(silos: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population standard deviation ``[k]`` over all silos' rows ``[m_i, k]``, from merged sums only."""
    first = reduce(Sums.merge, (Sums.of(values, np.zeros(values.shape[1])) for values in silos))
    if not first.count.all():
        return np.where(first.count > 0, 0.0, np.nan), np.zeros_like(first.total)
    center = first.mean()
    second = reduce(Sums.merge, (Sums.of(values, center) for values in silos))
    return second.mean(), second.deviation()


@dataclass(frozen=True)
class Options:
    """How tables are to be read; see :meth:`FederatedData.from_csv`."""

    target: str
    task: Task = "auto"
    categorical: Mapping[str, Sequence[Any] | None] | Sequence[str] | None = None
    classes: Sequence[str] | None = None
    standardize: bool = True

    def __post_init__(self) -> None:
        if self.task not in ("auto", "classification", "regression"):
            raise ConfigError(f"task: {self.task!r} is unknown; known: auto, classification, regression")
        if self.task == "regression" and self.classes is not None:
            raise ConfigError("classes: a regression target has none; leave them out or set task: classification")
        if self.classes is not None and len(set(map(str, self.classes))) != len(self.classes):
            raise ConfigError(f"classes: a name is given twice: {', '.join(map(str, self.classes))}")
        if not isinstance(self.categorical, (Mapping, list, tuple, type(None))):
            raise ConfigError(f"categorical: expected [columns] or {{column: [values]}}, got {self.categorical!r}")

    @property
    def declared(self) -> dict[str, list[str] | None]:
        """Categorical columns with their categories, None where the silos' union is to be taken."""
        if isinstance(self.categorical, Mapping):
            given = self.categorical.items()
            return {name: None if values is None else [str(value) for value in values] for name, values in given}
        return dict.fromkeys(self.categorical or ())


@dataclass(frozen=True)
class Encoding:
    """How a row becomes inputs: for each column its centre and scale, or its categories.

    Args:
        options: as the user gave them.
        numeric: numeric columns with (centre, scale, fill): inputs are ``(value or fill - centre) / scale``.
        categories: categorical columns with their categories.
        order: all input columns in the order of the inputs, that of the first file.
        classes: class names, None for regression.
    """

    options: Options
    numeric: dict[str, tuple[float, float, float]]
    categories: dict[str, list[str]]
    order: list[str]
    classes: list[str] | None

    def inputs(self, table: Table) -> NDArray[np.float32]:
        """Inputs ``[rows, features]``; an unknown category raises ConfigError with file, line and column."""
        blocks = [
            self._one_hot(table, name) if name in self.categories else self._scaled(table, name) for name in self.order
        ]
        joined = np.concatenate(blocks, axis=1)
        if joined.size and np.abs(joined).max() > np.finfo(np.float32).max:
            raise ConfigError(f"{table.path} has a number so far from the training data that float32 cannot hold it")
        return joined.astype(np.float32)

    def _scaled(self, table: Table, name: str) -> NDArray[np.float64]:
        center, scale, fill = self.numeric[name]
        values = table.numbers(name)
        return ((np.where(np.isnan(values), fill, values) - center) / scale)[:, None]

    def _one_hot(self, table: Table, name: str) -> NDArray[np.float64]:
        known = {category: number for number, category in enumerate(self.categories[name])}
        block = np.zeros((table.rows, len(known)))
        for row, value in enumerate(table.text(name)):
            if value is None:
                continue
            if value not in known:
                raise ConfigError(
                    f"{table.where(row)}, column {name!r}: unknown category {value!r}{nearest(value, known)}; "
                    f"known: {', '.join(known)}"
                )
            block[row, known[value]] = 1.0
        return block

    def targets(self, table: Table) -> NDArray[Any]:
        """Targets: int64 ``[rows]`` classes, or float32 ``[rows, 1]``; unknown or missing ones raise ConfigError."""
        name = self.options.target
        if self.classes is None:
            values = table.numbers(name)
            if np.isnan(values).any():
                raise ConfigError(f"{table.where(int(np.argmax(np.isnan(values))))}: the target {name!r} is missing")
            return values[:, None].astype(np.float32)
        known = {label: number for number, label in enumerate(self.classes)}
        numbers = np.empty(table.rows, dtype=np.int64)
        for row, label in enumerate(table.text(name)):
            if label is None:
                raise ConfigError(f"{table.where(row)}: the target {name!r} is missing")
            number = known.get(label, known.get(_canonical(label)))
            if number is None:
                source = "given" if self.options.classes is not None else "seen in training"
                raise ConfigError(
                    f"{table.where(row)}, column {name!r}: class {label!r} is not among the classes {source}: "
                    f"{', '.join(known)}"
                )
            numbers[row] = number
        return numbers


def _canonical(label: str) -> str:
    """Whole numbers in one form, so that ``1``, ``01`` and ``1.0`` are one class; other text unchanged."""
    try:
        value = float(label)
    except ValueError:
        return label
    return str(int(value)) if value.is_integer() else label


def _class_names(tables: Sequence[Table], options: Options) -> list[str] | None:
    """Class names in index order; None for regression."""
    if options.classes is not None:
        return [str(name) for name in options.classes]
    if options.task == "regression":
        return None
    found = {_canonical(label) for table in tables for label in table.text(options.target) if label is not None}
    whole = all(_WHOLE.fullmatch(label) for label in found)
    if options.task == "auto" and (_all_numbers(found) if not whole else len(found) > LABEL_LIMIT):
        return None
    return sorted(found, key=int) if whole else sorted(found)


def _all_numbers(labels: set[str]) -> bool:
    try:
        return all(np.isfinite(float(label)) for label in labels)
    except ValueError:
        return False


def _check_columns(tables: Sequence[Table], test: Table | None, options: Options, ignored: str | None) -> None:
    first = tables[0]
    for table in tables if test is None else [*tables, test]:
        optional = ignored if table is test else None
        if options.target not in table.columns:
            looks = any(_all_numbers({name}) for name in table.columns)
            hint = "; its first line looks like data: is the header missing?" if looks else ""
            names = ", ".join(list(table.columns)[:20])
            raise ConfigError(
                f"{table.path} has no target column {options.target!r}{nearest(options.target, table.columns)}; "
                f"its columns: {names}{hint}"
            )
        for name in first.columns:
            if name not in table.columns and name != optional:
                raise ConfigError(
                    f"{table.path} has no column {name!r}, but {first.path} has; columns are matched by name"
                )
        for name in table.columns:
            if name not in first.columns and name != optional:
                raise ConfigError(
                    f"{table.path} has a column {name!r} that {first.path} lacks; columns are matched by name"
                )
    for name in options.declared:
        if name not in first.columns or name == options.target:
            why = "is the target" if name == options.target else f"is no column of {first.path}"
            raise ConfigError(f"categorical: {name!r} {why}{nearest(name, first.columns)}")


def fit(tables: Sequence[Table], options: Options, ignored: str | None = None) -> Encoding:
    """Learn the encoding of the silos' tables from merged sums, declared categories and class names.

    Args:
        tables: one per silo, at least one.
        options: how to read them.
        ignored: a column that is no input.

    Raises:
        ConfigError: columns that differ between silos, a column without any value, a cell that cannot be read.
    """
    declared = options.declared
    order = [name for name in tables[0].columns if name not in (options.target, ignored)]
    if not order:
        raise ConfigError(f"{tables[0].path} has no columns beside the target {options.target!r}")
    names = [name for name in order if name not in declared]
    numeric: dict[str, tuple[float, float, float]] = {}
    if names:
        mean, deviation = federated_moments([np.stack([t.numbers(n) for n in names], axis=1) for t in tables])
        for name, center, scale in zip(names, mean.tolist(), deviation.tolist(), strict=True):
            if np.isnan(center):
                raise ConfigError(f"column {name!r} has no value in any training file; remove it")
            numeric[name] = (center, scale or 1.0, center) if options.standardize else (0.0, 1.0, center)
    categories: dict[str, list[str]] = {}
    for name in order:
        if name in declared:
            given = declared[name]
            union = {value for table in tables for value in table.text(name) if value is not None}
            categories[name] = sorted(union) if given is None else given
            if not categories[name]:
                raise ConfigError(f"categorical column {name!r} has no value in any training file; remove it")
    return Encoding(options, numeric, categories, order, _class_names(tables, options))


def from_tables(
    tables: Sequence[Table],
    test: Table | None,
    options: Options,
    *,
    ids: Sequence[str] | None = None,
    partitioner: Partitioner | None = None,
    seed: int = 0,
) -> FederatedData:
    """Federated data of one table per client, or of all tables' rows split by a partitioner."""
    if not tables:
        raise ConfigError("no training file was given; at least one is needed")
    ignored = getattr(partitioner, "column", None)
    _check_columns(tables, test, options, ignored)
    names = None
    if partitioner is None:
        names = check_ids([table.path.stem for table in tables] if ids is None else ids, len(tables))
    for table in tables if test is None else [*tables, test]:
        if table.rows == 0:
            raise ConfigError(f"{table.path} has no rows; neither a client nor a test set can be empty")
    encoding = fit(tables, options, ignored)
    inputs = np.concatenate([encoding.inputs(table) for table in tables])
    targets = np.concatenate([encoding.targets(table) for table in tables])
    classes = encoding.classes
    outputs, task = (1, "regression") if classes is None else (len(classes), "classification")
    spec = DataSpec((inputs.shape[1],), outputs, task, tuple(classes or ()))  # type: ignore[arg-type]
    held_out = None
    if test is not None:
        held_out = Examples(tensor(encoding.inputs(test)), tensor(encoding.targets(test)))
    if partitioner is not None:
        assigned = assign_rows(partitioner, targets, _Columns(tables), seed)
        return FederatedData.from_arrays(inputs, targets, assigned, test=held_out, ids=ids, spec=spec)
    sizes = np.array([table.rows for table in tables])
    return FederatedData(tensor(inputs), tensor(targets), sizes, spec, test=held_out, ids=names)


class _Columns(Mapping[str, NDArray[Any]]):
    """The columns of all tables' rows as text, joined only when asked for."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.array([value or "" for table in self._tables for value in table.text(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables[0].columns)

    def __len__(self) -> int:
        return len(self._tables[0].columns)
