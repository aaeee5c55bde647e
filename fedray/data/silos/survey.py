"""Silos: clients whose rows are read where they lie, by the workers there, and by nobody else."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError, listed
from fedray.data.columns.base import ClientData
from fedray.data.columns.checks import tensor
from fedray.data.columns.holdout import Holdout
from fedray.data.columns.ids import check_ids, id_keys
from fedray.data.columns.lazy import LazyData
from fedray.data.columns.probe import MadeUp
from fedray.data.columns.rows import Examples
from fedray.data.encoding import questions
from fedray.data.encoding.check import check_columns
from fedray.data.encoding.clients import TestTables
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.fit import Ask, fit, found_in, taken_for, unseen_in
from fedray.data.encoding.moments import Sums
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_table
from fedray.data.encoding.table import Table
from fedray.data.sites import Noted, Silo, SiteData, Sites

A = TypeVar("A")


@dataclass(frozen=True)
class _Tables:
    """The tables of a silo: the one to train on, and its own test set."""

    table: Table
    test: Table | None


def _open_all(name: str, silo: Silo, options: Options, holdout: Holdout) -> _Tables:
    """Read a silo's tables; called where they lie."""
    test = None if silo.test is None else _open(name, silo.test, silo, options)
    return _Tables(_open_own(name, silo, options, holdout), test)


def _open_own(name: str, silo: Silo, options: Options, holdout: Holdout) -> Table:
    """Read the table of a silo's rows, which knows which are held out; called where it lies."""
    table = _open(name, silo.path, silo, options)
    return table.with_held(holdout.rows(id_keys(check_ids([name], 1)), np.array([table.rows])))


def _open(name: str, path: str, silo: Silo, options: Options) -> Table:
    """Read a silo's table; called where it lies."""
    with _said_by(name):
        expanded = os.path.expandvars(path)
        unknown = re.findall(r"\$\{?(\w+)", expanded)
        if unknown:
            raise ConfigError(f"path {path}: the environment has no {listed(unknown)} here")
        return read_table(expanded, options.reading(expanded, silo.csv))


def _answer(name: str, question: Callable[[Table], A], tables: _Tables) -> A:
    with _said_by(name):
        return question(tables.table)


def _answer_of_test(name: str, question: Callable[[Table], A], tables: _Tables) -> A | None:
    """Answer for the silo's own test set; None if it has none."""
    with _said_by(name):
        return None if tables.test is None else question(tables.test)


@contextmanager
def _said_by(name: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"silo {name!r}, on {platform.node()}: {error}") from None
    except OSError as error:
        reason = f"{error.filename} cannot be read: {error.strerror}"
        raise ConfigError(f"silo {name!r}, on {platform.node()}: {reason}") from None


class SiloData(LazyData):
    """A client for each silo.  A process reads a silo's table when it first opens it, and keeps it.

    A pickle holds no row.  Where the file is not, opening the client raises ConfigError.

    Args:
        silos: by client id.
        encoding: of all tables.
        totals: rows of each silo, int64 ``[n]``.
        held: the number of them that are held out, int64 ``[n]``.
        holdout: decides which.
        test_sizes: rows of each silo's own test set, int64 ``[n]``.
        counts: training rows per silo and class, int64 ``[n, classes]``; ``[n, 0]`` for regression.
        test: central test set.
        marks: a hash of each silo's file.
        options: the options for reading the tables.
        sites: reaches the silos.
    """

    def __init__(
        self,
        silos: Mapping[str, Silo],
        encoding: Encoding,
        totals: NDArray[np.int64],
        held: NDArray[np.int64],
        holdout: Holdout,
        counts: NDArray[np.int64],
        test: Examples | None,
        marks: Mapping[str, str],
        test_sizes: NDArray[np.int64],
        options: Options,
        sites: Sites,
    ) -> None:
        self.encoding, self.marks = encoding.to_json(), marks
        self._silos, self._encoding, self._options, self._sites = dict(silos), encoding, options, sites
        self._holdout, seed = holdout, holdout.seed
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.warnings = encoding.warnings
        self._kept_tests: dict[int, tuple[Tensor, Tensor]] = {}
        super().__init__(self._read, list(silos), totals, encoding.spec, held=held, seed=seed, test=test, counts=counts)
        self.test_sizes = test_sizes

    def _read(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._encoded(name, _open_own(name, self._silos[name], self._options, self._holdout))

    def _encoded(self, name: str, table: Table) -> tuple[NDArray[Any], NDArray[Any]]:
        with _said_by(name):
            return self._encoding.inputs(table), self._encoding.targets(table)

    def own_test(self, clients: NDArray[np.int64]) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        own = [self._none(), *(self._own_test(int(client)) for client in clients[self.test_sizes[clients] > 0])]
        segment = np.repeat(np.arange(len(clients)), self.test_sizes[clients])
        return torch.cat([x for x, _ in own]), torch.cat([y for _, y in own]), segment

    def _own_test(self, client: int) -> tuple[Tensor, Tensor]:
        if client not in self._kept_tests:
            name = self.client_id(client)
            path, size = self._silos[name].test, int(self.test_sizes[client])
            assert path is not None
            x, y = self._encoded(name, _open(name, path, self._silos[name], self._options))
            if len(x) != size:
                raise ConfigError(f"silo {name!r}: its test set has {len(x)} rows, {size} when the run was started")
            self._kept_tests[client] = tensor(x), tensor(y)
        return self._kept_tests[client]

    def _load(self, client: int) -> tuple[Tensor, Tensor]:
        if client not in self._kept:
            self._kept[client] = super()._load(client)
        return self._kept[client]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_kept_tests": {}}

    def target_sums(self, center: NDArray[np.float64]) -> list[Sums]:
        """See :meth:`ClientData.target_sums`; the silos are asked once more, where they lie."""
        with self._sites.opened(_sources(self._silos, self._options, self._holdout)) as opened:
            them = Noted(opened)
            about = partial(questions.target_sums, encoding=self._encoding, center=center)
            answers = them.ask([partial(_answer, name, about) for name in self._silos])
        self.asked = (*self.asked, *them.asked)
        return answers

    @property
    def silos(self) -> Mapping[str, Silo]:
        return self._silos

    def pin(self, client: int) -> str | None:
        return self.client_id(client)

    def pins(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        return clients

    def probe(self) -> ClientData:
        return MadeUp(self)

    def with_holdout(self, fraction: float, seed: int) -> ClientData:
        if fraction == 0.0:
            return self
        raise ConfigError("holdout: silos are asked once; say it in the data section")


def _sources(silos: Mapping[str, Silo], options: Options, holdout: Holdout) -> list[SiteData[_Tables]]:
    return [
        SiteData(f"silo {name!r}", silo.where, partial(_open_all, name, silo, options, holdout))
        for name, silo in silos.items()
    ]


@contextmanager
def opened(silos: Mapping[str, Silo], options: Options, holdout: Holdout, sites: Sites) -> Iterator[Ask]:
    """Open the silos' tables where they lie, and give what asks them.

    Raises:
        ConfigError: a silo that cannot be reached, a file that cannot be read.
    """
    with sites.opened(_sources(silos, options, holdout)) as them:

        def ask(question: Callable[[Table], A]) -> list[A]:
            return them.ask([partial(_answer, name, question) for name in silos])

        yield ask


def survey(
    silos: Mapping[str, Silo],
    test: Path | None,
    options: Options,
    holdout: Holdout,
    sites: Sites,
    encoding: Encoding | None = None,
) -> SiloData:
    """Learn from the silos' answers what a run must know of them.

    Args:
        silos: by client id.
        test: file of the held-out test set, read here.
        options: the options for reading tables.
        holdout: the rows of each silo that are held out.
        sites: reaches the silos.
        encoding: of a run that goes on; the silos are then not asked what it is learnt from.

    Raises:
        ConfigError: a silo that cannot be reached, a file that cannot be read, tables that do not fit together.
    """
    names = list(silos)
    check_ids(names, len(names))
    _check_evaluation(silos, holdout.fraction)
    tests = TestTables([] if test is None else [read_table(test, options.reading(test))])
    with sites.opened(_sources(silos, options, holdout)) as opened:
        them = Noted(opened)

        def ask(question: Callable[[Table], A]) -> list[A]:
            return them.ask([partial(_answer, name, question) for name in names])

        def ask_tests(question: Callable[[Table], A]) -> list[A | None]:
            if not any(silo.test for silo in silos.values()):
                return [None] * len(silos)
            return them.ask([partial(_answer_of_test, name, question) for name in names])

        outlines, own = ask(questions.outline), ask_tests(questions.outline)
        if encoding is not None:
            encoding = encoding.need(options)
        outer = [questions.outline(table) for table in tests.tables]
        check_columns(outlines, [*outer, *(one for one in own if one is not None)], options, encoding=encoding)
        if encoding is None:
            encoding = fit(ask, outlines, options)
        told = [*outlines, *outer, *(one for one in own if one is not None)]
        notes = taken_for(encoding) + found_in(told, encoding)
        if encoding.options.unseen == "other" or holdout.fraction:
            unseen = partial(questions.unseen, encoding=encoding)
            found = [*ask(unseen), *map(unseen, tests.tables), *(one for one in ask_tests(unseen) if one is not None)]
            notes += unseen_in(told, found, encoding)
        totals, held = (np.array([getattr(outline, key) for outline in outlines]) for key in ("rows", "held"))
        count = partial(questions.class_counts, encoding=encoding)
        counts = ask(count)
        ask_tests(count)  # can they be read?
        marks = dict(zip(names, ask(questions.fingerprint), strict=True))
    sizes = np.array([0 if outline is None else outline.rows for outline in own], dtype=np.int64)
    read = tests.encoded(encoding)
    data = SiloData(silos, encoding, totals, held, holdout, np.stack(counts), read, marks, sizes, options, sites)
    data.notes = (*data.notes, *notes)
    data.asked = them.asked
    return data


def _check_evaluation(silos: Mapping[str, Silo], holdout: float) -> None:
    """Raise ConfigError if silos have test sets of their own that nothing would be evaluated on."""
    own = [name for name, silo in silos.items() if silo.test is not None]
    if own and holdout:
        raise ConfigError(
            f"holdout: clients are evaluated on held-out rows, or on test sets of their own, which {listed(own)} "
            "have; leave one of the two out"
        )
