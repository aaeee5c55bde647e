"""Tables as the rows of clients: whose each is, which are held out, and their inputs and targets by one encoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.data.columns.arrays import Columns, by_client, held_out
from fedray.data.columns.checks import tensor
from fedray.data.columns.holdout import Holdout
from fedray.data.columns.ids import check_ids
from fedray.data.columns.rows import Examples
from fedray.data.encoding import questions
from fedray.data.encoding.check import check_columns
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.fit import class_names, fit, found_in, taken_for, unseen_in
from fedray.data.encoding.options import Options
from fedray.data.encoding.table import Table
from fedray.data.partition import Partitioner, assign_rows
from fedray.data.sites import NotedHere, note


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
    holdout: float = 0.0,
    encoding: Encoding | None = None,
) -> Columns:
    """Encode the rows of tables, a client for each table, or split over clients by a partitioner.

    The encoding is a run's, if one is given; else it is learnt from the rows that are not held out.
    """
    if not tables:
        raise ConfigError("no training file was given; at least one is needed")
    if encoding is not None:
        encoding = encoding.need(options)
    column = getattr(partitioner, "column", None)
    there, tested = (list(map(questions.outline, some)) for some in (tables, test.tables))
    check_columns(there, tested, options, column, encoding)
    names = None
    if partitioner is None:
        names = check_ids([table.path.stem for table in tables] if ids is None else ids, len(tables))
    tables = with_held(tables, options, Holdout(holdout, seed), ids=ids, partitioner=partitioner)

    # As silos are asked, and noted so: of what their rows are, only what a silo would tell as well.
    here, own = NotedHere(tables), NotedHere(test.tables)
    outlines, tested = here.each(questions.outline), own.each(questions.outline)
    if encoding is None:
        encoding = fit(here.each, outlines, options, column)
    told = [*outlines, *tested]
    notes = taken_for(encoding) + found_in(told, encoding)
    if encoding.options.unseen == "other" or holdout:
        unseen = partial(questions.unseen, encoding=encoding)
        notes += unseen_in(told, [*here.each(unseen), *own.each(unseen)], encoding)
    inputs = np.concatenate([encoding.inputs(table) for table in tables])
    targets = [encoding.targets(table) for table in tables]
    counts = [encoding.by_class(one[table.training]) for one, table in zip(targets, tables, strict=True)]
    here.asked.append(note(questions.class_counts, counts))
    own.asked.append(note(questions.class_counts, [encoding.by_class(encoding.targets(one)) for one in test.tables]))
    tested_on = test.encoded(encoding)
    if partitioner is not None:
        every = np.concatenate(targets)
        assigned = assign_rows(partitioner, every, _Columns(tables), seed)
        owners = test.named(column, ids or np.unique(np.asarray(assigned).astype(np.str_)).tolist())
        columns = by_client(inputs, every, assigned, test=tested_on, ids=ids, spec=encoding.spec, test_clients=owners)
    else:
        sizes = np.array([table.rows for table in tables])
        columns = Columns(inputs, np.concatenate(targets), sizes, encoding.spec, tested_on, names)
    files = [str(table.path) for table in tables] if names is None else [name.decode() for name in names]
    marks = dict(zip(files, here.each(questions.fingerprint), strict=True))
    asked = (*here.asked, *(own.asked if test.owners else ()))
    found = replace(columns, warnings=encoding.warnings, encoding=encoding.to_json(), notes=notes)
    return replace(found, marks=marks, asked=asked, holdout=Holdout(holdout, seed))


def with_held(
    tables: Sequence[Table],
    options: Options,
    holdout: Holdout,
    *,
    ids: Sequence[str] | None = None,
    partitioner: Partitioner | None = None,
) -> list[Table]:
    """Return tables with the rows marked that are held out of those of their clients.

    Args:
        tables: the tables.
        options: the options for reading them.
        holdout: the fraction, and the seed, also of the partitioner.
        ids: the ids of clients, see :func:`read_tables`.
        partitioner: the rule that gives rows to clients; None: each table is a client.

    Raises:
        ConfigError: the rule cannot be applied, as targets cannot be read.
    """
    if not holdout.fraction:
        return list(tables)
    sizes = [table.rows for table in tables]
    if partitioner is None:
        stems = [table.path.stem for table in tables]
        marks = held_out(np.repeat(np.array(stems if ids is None else ids, dtype=np.str_), sizes), None, holdout)
    else:
        assigned = assign_rows(partitioner, _targets(tables, options, partitioner), _Columns(tables), holdout.seed)
        marks = held_out(np.asarray(assigned), ids, holdout)
    parts = np.split(marks, np.cumsum(sizes)[:-1])
    return [table.with_held(part) for table, part in zip(tables, parts, strict=True)]


def _targets(tables: Sequence[Table], options: Options, partitioner: Partitioner) -> NDArray[Any]:
    """Return the targets of all rows, which a partitioner splits by that does not go by a column."""
    if getattr(partitioner, "column", None) is not None:
        return np.zeros(0)
    classes, _ = class_names(lambda question: [question(table) for table in tables], options, [""] * len(tables))
    targets = Encoding(options, {}, {}, [], classes)
    return np.concatenate([targets.targets(table) for table in tables])


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
