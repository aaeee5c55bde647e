"""A report on the data of a config before a run: by answers that the places of the data give, and by counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed
from fedray.core.messages import Ints
from fedray.data.columns.base import ClientData
from fedray.data.columns.checks import LABEL_LIMIT
from fedray.data.encoding import overview, questions
from fedray.data.encoding.fit import Ask
from fedray.data.encoding.options import Options
from fedray.data.encoding.overview import LEVELS
from fedray.data.sources.tables import TableSource
from fedray.experiment.build import Config
from fedray.report.columns import ColumnReport, drifts, edges_of
from fedray.report.drift import distance
from fedray.report.of_arrays import of_arrays
from fedray.tasks import Task

MEDIAN, LOW, HIGH = LEVELS.index(0.5), LEVELS.index(0.05), LEVELS.index(0.95)


@dataclass(frozen=True)
class Lengths:
    """The lengths of a client's training examples, where these are sequences.

    Args:
        tokens: their sum.
        targets: the positions that a loss counts.
        median: the median.
        longest: the largest.
    """

    tokens: int
    targets: int
    median: float
    longest: int


@dataclass(frozen=True)
class DataReport:
    """All that is told of the data of a config.

    Args:
        name: of the config.
        sites: the names of the places of tables, or of files; empty: there are no tables.
        rows: of each of them, without those that are held out, of which nothing is told.
        columns: the columns but for the target and those that are ignored.
        target: the target's; None: there are no tables.
        clients: the names of the clients; empty: the data cannot be loaded.
        sizes: the training examples of each.
        classes: the names of the classes; empty: there are none.
        counts: training examples of each client (of each site, where there are no clients) and class, ``[n, k]``.
        lengths: of the examples of each client; empty: all have one length.
        test: the examples of the central test set.
        held: the held-out examples, or own test sets, of all clients together.
        example: an example in words.
        refused: the reason for which a run of this config would be refused; empty: none was found.
        missing: the config's own values that stand for missing ones, by column.
        categorical: the config's own columns of categories.
        metrics: metrics of single classes are measured, as those are that nobody chooses.
        weights: the config weighs examples by their class.
    """

    name: str
    sites: Sequence[str] = ()
    rows: Sequence[int] = ()
    columns: Sequence[ColumnReport] = ()
    target: ColumnReport | None = None
    clients: Sequence[str] = ()
    sizes: Sequence[int] = ()
    classes: Sequence[str] = ()
    counts: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    lengths: Sequence[Lengths] = ()
    test: int = 0
    held: int = 0
    example: str = ""
    refused: str = ""
    missing: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    categorical: Mapping[str, Any] | Sequence[str] | None = None
    metrics: bool = False
    weights: bool = False

    @property
    def groups(self) -> Sequence[str]:
        """The names of the rows of ``counts``: clients, or sites."""
        return self.clients or self.sites

    @property
    def skew(self) -> list[float]:
        """The distance of the mix of classes of each group from that of all, in [0, 1]; empty without classes."""
        return distance(self.counts).tolist() if self.counts.size else []

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        columns = [*self.columns, *([self.target] if self.target else [])]
        return {
            "name": self.name,
            "sites": dict(zip(self.sites, self.rows, strict=True)),
            "clients": dict(zip(self.clients, self.sizes, strict=True)),
            "classes": list(self.classes),
            "labels": dict(zip(self.groups, self.counts.tolist(), strict=False)) if self.counts.size else {},
            "label_distance": dict(zip(self.groups, self.skew, strict=False)),
            "lengths": dict(zip(self.groups, map(asdict, self.lengths), strict=False)),
            "columns": {one.name: _column_json(one, self.sites) for one in columns},
            "target": self.target.name if self.target else None,
            "test": self.test,
            "held_out": self.held,
            "refused": self.refused,
        }


def worded(kind: str, value: float, digits: int = 4) -> str:
    """Return a value as people read it.

    >>> worded("numbers", 12.3456789), worded("dates", 366.0)
    ('12.35', '1971-01-02')
    """
    if kind != "dates":
        return f"{value:.{digits}g}"
    return (date(1970, 1, 1) + timedelta(days=value)).isoformat()


def _column_json(column: ColumnReport, sites: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": column.kind}
    if column.categories:
        found["categories"] = list(column.categories)
    at: dict[str, dict[str, Any]] = {}
    for number, (site, one) in enumerate(zip(sites, column.at, strict=True)):
        at[site] = {"kind": one.kind, "missing": one.missing, "different": one.different}
        if one.quantiles is not None:
            at[site]["quantiles"] = dict(zip(map(str, LEVELS), one.quantiles, strict=True))
        if one.extreme is not None:
            at[site]["far_apart"] = {"value": one.extreme[0], "rows": one.extreme[1]}
        if column.drift and np.isfinite(column.drift[number].psi):
            at[site]["psi"], at[site]["by_chance"] = column.drift[number].psi, column.drift[number].chance
        if column.counts.size:
            at[site]["counts"] = column.counts[number].tolist()
    return {**found, "at": at}


def report_on(config: Config) -> DataReport:
    """Ask for all that is told of the data of a config.

    Of tables only what :mod:`fedray.data.encoding.questions` and :mod:`fedray.data.encoding.overview` may ask is asked,
    where they lie.

    Raises:
        ConfigError: a table cannot be read, or has no target; a place cannot be reached.
    """
    found = DataReport(config.name)
    if isinstance(config.data, TableSource) and getattr(config.data, "target", None) is not None:
        found = _of_tables(config, config.data)
    chosen, weighted = config.chosen_metrics(), config.local.class_weights is not None
    measured = chosen is None or any(metric.rests_on_classes for metric in chosen)
    return _with_clients(config, replace(found, metrics=measured, weights=weighted))


def _with_clients(config: Config, found: DataReport) -> DataReport:
    """Load the data, as a run would, and count."""
    try:
        data = config.load_data()
    except ConfigError as error:
        if not found.sites:
            raise
        return _changed(found, refused=str(error))
    spec = data.spec
    counts = found.counts
    if spec.task == "classification" and data.counted and spec.padding is None:
        counts = data.label_counts()
    many = range(len(data))
    about = config.task if isinstance(config.task, Task) else Task()
    told = spec.padding is not None and data.taken is None  # by the lengths of its examples
    if not found.sites and not told and (arrays := of_arrays(data)) is not None:
        found = _changed(found, sites=arrays.sites, rows=arrays.rows, columns=arrays.columns, target=arrays.target)
    return _changed(
        found,
        clients=[data.client_id(index) for index in many],
        sizes=data.sizes.tolist(),
        classes=spec.classes or [str(k) for k in range(counts.shape[1] if counts.size else 0)],
        counts=counts,
        lengths=[_lengths(data, index, about.unsaid) for index in many] if spec.padding is not None else (),
        test=0 if data.test is None else len(data.test),
        held=int(data.evaluation_sizes.sum()),
        example=spec.inputs if spec.padding is not None else f"{spec.inputs} to {about.of(spec).targets}",
    )


def _lengths(data: ClientData, client: int, unsaid: int) -> Lengths:
    """Return the lengths of a client's examples, whose targets are sequences with padding."""
    found, padding = data.lengths(client), data.spec.padding
    assert found is not None
    assert padding is not None
    targets = int(data.positions(np.array([client]), padding, unsaid)[0])
    return Lengths(int(found.sum()), targets, float(np.median(found)), int(found.max()))


def _changed(report: DataReport, **changes: Any) -> DataReport:
    return replace(report, **changes)


def _of_tables(config: Config, source: TableSource) -> DataReport:
    options = source.options()
    with source.opened(config.schema.seed, config.place.sites) as (sites, ask):
        outlines = ask(questions.outline)
        ordered = dict.fromkeys(name for outline in outlines for name in outline.columns)
        if options.target not in ordered:
            near = nearest(options.target, ordered)
            raise ConfigError(
                f"data.target: no table has a column {options.target!r}{near}; their columns: {listed(ordered)}"
            )
        left = {options.target, *options.ignore, *filter(None, [source.column()])}
        wanted = ordered if options.columns is None else options.columns
        names = [name for name in ordered if name not in left and name in wanted]
        target, classes = _target(ask, options)
        columns = _columns(ask, names, options)
    counts = target.counts[:, :-1] if classes else np.zeros((0, 0), dtype=np.int64)
    return DataReport(
        config.name,
        sites,
        [outline.rows - outline.held for outline in outlines],
        columns,
        target,
        classes=classes,
        counts=counts,
        missing=options.missing,
        categorical=options.categorical,
    )


def _target(ask: Ask, options: Options) -> tuple[ColumnReport, list[str]]:
    """Return the target's column, and the names of the classes."""
    told = ask(partial(_labels, target=options.target, classes=options.task == "classification"))
    names = [str(name) for name in options.classes or ()]
    if not names and options.task != "regression" and all(one.names is not None for one in told if one):
        found = {name for one in told if one for name in one.names or ()}
        numeric = all(name.lstrip("-").isdecimal() for name in found)
        if options.task == "classification" or not numeric or len(found) <= LABEL_LIMIT:
            names = sorted(found, key=int) if numeric else sorted(found)
    (column,) = _columns(ask, [options.target], options, {options.target: names} if names else {})
    return ColumnReport(column.name, column.at, column.drift, column.categories, column.counts, target=True), names


def _labels(table: Any, target: str, classes: bool) -> questions.Labels | None:
    """Return the labels of a table, None where it has none."""
    return questions.labels(table, target, classes) if target in table.columns else None


def _columns(
    ask: Ask, names: Sequence[str], options: Options, categories: Mapping[str, Sequence[str]] | None = None
) -> list[ColumnReport]:
    """Return columns at all sites; ``categories``: those of columns that are no declared ones."""
    known, many = {name: list(given) for name, given in (categories or {}).items()}, {*options.top, *options.hashed}
    for name in names if categories is None else ():
        if name in options.levels:
            known[name] = list(options.levels[name])
        elif name in options.declared and name not in many:
            found = _categories(ask, name, options.declared[name])
            if found is not None:
                known[name] = found
    text = [name for name in names if name in known or name in options.declared]
    at = ask(partial(overview.described, columns=list(names), text=text))
    at = [{name: replace(one, names_rows=one.names_rows and name not in many) for name, one in a.items()} for a in at]
    edges = {}
    for name in names:
        ends = edges_of([one[name] for one in at])
        if name not in text and len(ends):
            edges[name] = ends
    bins = ask(partial(overview.in_bins, edges=edges)) if edges else [{} for _ in at]
    shares = ask(partial(overview.counted_values, values=known)) if known else [{} for _ in at]
    reports = []
    for name in names:
        width = len(known[name]) + 1 if name in known else len(edges.get(name, ())) + 1
        part = shares if name in known else bins
        counts = np.stack([one.get(name, np.zeros(width, dtype=np.int64)) for one in part])
        drift = drifts(counts) if name in known or name in edges else ()
        own = counts if name in known else np.zeros((0, 0), dtype=np.int64)
        reports.append(ColumnReport(name, [one[name] for one in at], drift, known.get(name, ()), own))
    return reports


def _categories(ask: Ask, name: str, given: Any) -> list[str] | None:
    """Return the categories of a declared column: those listed, or the union; None: they are told to nobody."""
    if isinstance(given, list):
        return [str(one) for one in given]
    try:
        answers = ask(partial(_values, name=name))
    except ConfigError:
        return None
    return sorted({value for answer in answers for value in answer})


def _values(table: Any, name: str) -> tuple[str, ...]:
    return questions.categories(table, [name])[name] if name in table.columns else ()
