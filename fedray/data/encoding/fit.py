"""Tables of several silos to one encoding of inputs and targets, learnt from answers that the silos may give."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed
from fedray.data.columns.arrays import Columns, by_client
from fedray.data.columns.checks import check_ids, tensor
from fedray.data.columns.rows import Examples
from fedray.data.encoding import questions
from fedray.data.encoding.encoding import Encoding, Options
from fedray.data.encoding.moments import federated_moments
from fedray.data.encoding.questions import LABEL_LIMIT, Labels, Outline
from fedray.data.encoding.table import SEPARATED, Table, single_but_separated
from fedray.data.partition import Partitioner, assign_rows

A = TypeVar("A")
_log = logging.getLogger("fedray")


class Ask(Protocol):
    """A question to the tables of all silos, wherever they are."""

    def __call__(self, question: Callable[[Table], A]) -> list[A]:
        """Return every silo's answer, in their order."""
        ...


def _class_names(ask: Ask, options: Options, paths: Sequence[str]) -> tuple[list[str] | None, tuple[str, ...]]:
    """Return class names in index order, None for regression, and the warnings about them."""
    if options.classes is not None:
        return [str(name) for name in options.classes], ()
    if options.task == "regression":
        return None, ()
    answers = ask(partial(questions.labels, target=options.target, classes=options.task == "classification"))
    kinds = {answer.kind for answer in answers}
    told = {name for answer in answers for name in answer.names or ()}
    silent = any(answer.names is None for answer in answers)
    if options.task == "auto" and "text" not in kinds and (silent or "numbers" in kinds or len(told) > LABEL_LIMIT):
        return None, ()
    if silent:
        raise ConfigError(
            f"the target {options.target!r} is numbers in some files and text in others; correct them, or say "
            "`task: classification` if all of them are names of classes"
        )
    warnings = _lonely(answers, paths) if "text" in kinds and len(answers) > 1 else ()
    return sorted(told, key=int) if kinds == {"whole"} else sorted(told), warnings


def _lonely(answers: Sequence[Labels], paths: Sequence[str]) -> tuple[str, ...]:
    """Return the warning of classes that one of several files alone has, if any: a typo is one of them."""
    files = Counter(name for answer in answers for name in answer.names or ())
    lonely = [
        f"{name!r} ({path})"
        for path, answer in zip(paths, answers, strict=True)
        for name in answer.names or ()
        if files[name] == 1
    ]
    if not lonely:
        return ()
    return (
        f"classes that one file alone has: {listed(lonely)}; correct them if they are typos, else declare `classes`",
    )


def check_columns(
    outlines: Sequence[Outline],
    tests: Sequence[Outline],
    options: Options,
    column: str | None = None,
    encoding: Encoding | None = None,
) -> None:
    """Raise ConfigError unless all files have the columns that are wanted, and some rows.

    Args:
        outlines: of the training files; none, if there is an encoding.
        tests: of the test files.
        options: the options for reading them.
        column: names the clients of the rows of training files, and is no input.
        encoding: of a run, whose columns are wanted; else those of the first file, and the declared ones.
    """
    files = [*outlines, *tests]
    every = list(outlines[0].columns) if encoding is None else [*encoding.order, options.target]
    wanted = [name for name in every if name not in options.ignore and name != column]
    whose = outlines[0].path if encoding is None else "the table that the model was trained on"
    for outline in files:
        if options.target not in outline.columns:
            looks = any(questions.all_numbers({name}) for name in outline.columns)
            hint = "; its first line looks like data: is the header missing?" if looks else ""
            if single_but_separated(outline.columns):
                hint = SEPARATED
            raise ConfigError(
                f"{outline.path} has no target column {options.target!r}{nearest(options.target, outline.columns)}; "
                f"its columns: {listed(outline.columns)}{hint}"
            )
        for name in [*wanted, column] if column is not None and outline not in tests else wanted:
            if name not in outline.columns:
                without = "" if encoding or name == column else f"; to do without it: `ignore: [{name}]`"
                raise ConfigError(
                    f"{outline.path} has no column {name!r}, but {whose} has; columns are matched by name{without}"
                )
        for name in outline.columns:
            if name not in wanted and name not in options.ignore and name != column:
                raise ConfigError(
                    f"{outline.path} has a column {name!r} that {whose} lacks; columns are matched by name; "
                    f"to do without it: `ignore: [{name}]`"
                )
    for name in options.declared if encoding is None else ():
        if name not in wanted or name == options.target:
            why = "is the target" if name == options.target else f"is no column of {whose}"
            raise ConfigError(f"categorical: {name!r} {why}{nearest(name, wanted)}")
    for name in options.ignore if outlines else ():
        if not any(name in outline.columns for outline in files):
            raise ConfigError(f"ignore: {name!r} is a column of no file{nearest(name, outlines[0].columns)}")
    for outline in files:
        if outline.rows == 0:
            raise ConfigError(f"{outline.path} has no rows; neither a client nor a test set can be empty")


def fit(ask: Ask, outlines: Sequence[Outline], options: Options, column: str | None = None) -> Encoding:
    """Learn the encoding of the silos' tables from merged sums, categories and class names.

    Args:
        ask: reaches the silos.
        outlines: of their tables.
        options: the options for reading them.
        column: names the clients of rows, and is no input.

    Raises:
        ConfigError: a column without any value, a cell that cannot be read.
    """
    declared = options.declared
    first = outlines[0]
    order = [name for name in first.columns if name not in (options.target, column, *options.ignore)]
    if not order:
        raise ConfigError(f"{first.path} has no columns beside the target {options.target!r}")
    names = [name for name in order if name not in declared]
    numeric: dict[str, tuple[float, float, float]] = {}
    if names:
        mean, deviation = federated_moments(
            lambda center: ask(partial(questions.sums, columns=names, center=center)), len(names)
        )
        for name, center, scale in zip(names, mean.tolist(), deviation.tolist(), strict=True):
            if np.isnan(center):
                raise ConfigError(
                    f"column {name!r} has no value in any training file; leave it out: `ignore: [{name}]`"
                )
            numeric[name] = (center, scale or 1.0, center) if options.standardize else (0.0, 1.0, center)
    categories = _categories(ask, {name: declared[name] for name in order if name in declared})
    classes, warnings = _class_names(ask, options, [o.path for o in outlines])
    for warning in warnings:
        _log.warning("%s", warning)
    return Encoding(options, numeric, categories, order, classes, warnings)


def _categories(ask: Ask, declared: Mapping[str, list[str] | None]) -> dict[str, list[str]]:
    open_ones = [name for name, given in declared.items() if given is None]
    answers = ask(partial(questions.categories, columns=open_ones)) if open_ones else []
    categories: dict[str, list[str]] = {}
    for name, given in declared.items():
        categories[name] = sorted({value for answer in answers for value in answer[name]}) if given is None else given
        if not categories[name]:
            raise ConfigError(
                f"categorical column {name!r} has no value in any training file; leave it out: `ignore: [{name}]`"
            )
    return categories


@dataclass(frozen=True)
class TestTables:
    """The tables of a test set.

    Args:
        tables: the tables, of which there may be none.
        owners: the number of the client whose own each is, -1 for nobody's; None: nobody's at all, or, where a column
            names the client of a row and they have it, that client's.
    """

    __test__ = False

    tables: Sequence[Table] = ()
    owners: Sequence[int] | None = None

    def encoded(self, encoding: Encoding) -> Examples | None:
        """Return them as one test set, in their order; None if there are none."""
        if not self.tables:
            return None
        inputs = np.concatenate([encoding.inputs(table) for table in self.tables])
        targets = np.concatenate([encoding.targets(table) for table in self.tables])
        return Examples(tensor(inputs), tensor(targets), self._of_files())

    def _of_files(self) -> NDArray[np.int64] | None:
        if self.owners is None:
            return None
        return np.repeat(np.array(self.owners, dtype=np.int64), [table.rows for table in self.tables])

    def named(self, column: str | None, known: Sequence[str]) -> NDArray[np.str_] | None:
        """Return the client whose own each row is, '' for nobody's, by a column of theirs; None if they lack it."""
        if column is None or not self.tables or any(column not in table.columns for table in self.tables):
            return None
        found = [value or "" for table in self.tables for value in table.text(column)]
        return np.array([value if value in known else "" for value in found], dtype=np.str_)


def read_tables(
    tables: Sequence[Table],
    test: TestTables,
    options: Options,
    *,
    ids: Sequence[str] | None = None,
    partitioner: Partitioner | None = None,
    seed: int = 0,
    encoding: Encoding | None = None,
) -> Columns:
    """Encode the rows of tables, a client for each table, or split over clients by a partitioner.

    The encoding is a run's, if one is given; else it is learnt from the tables.
    """
    if not tables:
        raise ConfigError("no training file was given; at least one is needed")

    def ask(question: Callable[[Table], A]) -> list[A]:
        return [question(table) for table in tables]

    column = getattr(partitioner, "column", None)
    outlines = ask(questions.outline)
    if encoding is not None:
        encoding.need(options)
    check_columns(outlines, [questions.outline(table) for table in test.tables], options, column, encoding)
    names = None
    if partitioner is None:
        names = check_ids([table.path.stem for table in tables] if ids is None else ids, len(tables))
    if encoding is None:
        encoding = fit(ask, outlines, options, column)
    inputs = np.concatenate(ask(encoding.inputs))
    targets = np.concatenate(ask(encoding.targets))
    held_out = test.encoded(encoding)
    if partitioner is not None:
        assigned = assign_rows(partitioner, targets, _Columns(tables), seed)
        own = test.named(column, ids or np.unique(np.asarray(assigned).astype(np.str_)).tolist())
        columns = by_client(inputs, targets, assigned, test=held_out, ids=ids, spec=encoding.spec, test_clients=own)
    else:
        sizes = np.array([table.rows for table in tables])
        columns = Columns(inputs, targets, sizes, encoding.spec, held_out, names)
    files = [str(table.path) for table in tables] if names is None else [name.decode() for name in names]
    marks = dict(zip(files, ask(questions.fingerprint), strict=True))
    return replace(columns, warnings=encoding.warnings, encoding=encoding.to_json(), marks=marks)


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
