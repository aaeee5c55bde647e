"""The clients of runs: what each got, how it spreads over them, which labels each holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import counted
from fedray.core.record import OWN, SPREAD, VIEWS, more_is_better
from fedray.core.record import title as title_of
from fedray.report.blocks import Block, Cell, Figures, Table, Words
from fedray.report.charts import Boxes, Chart, Owners, Points
from fedray.report.label_maps import maps_of
from fedray.report.progress import MOST_CURVES, WHOSE, metrics_of, mixed
from fedray.report.told import Setting, Told
from fedray.rundir.client_table import TRAIN, metrics_in, newest_part
from fedray.rundir.each_client import SUPPORT, frequent_among, of_each_class
from fedray.sweep.compare import ALONE, POOLED

MOST_CLIENTS = 200
"""The number of clients that a table has room for."""

CONFUSION = "confusion_matrix"
"""The column of confusion matrices in the table of clients."""

BASELINES = {ALONE: "each client alone", POOLED: "all rows in one place"}
"""The baselines of a comparison, in words."""

FREQUENT = "most frequent class"
"""The head of a column that says which class most rows have, and its share of them."""

_MOST_NAMED, _MOST_POINTS = 12, 100


@dataclass(frozen=True)
class Evaluated:
    """The last evaluation of the clients of a run.

    Args:
        clients: their ids.
        examples: rows of each, ``[C]``.
        values: values by view and metric, ``[C]``.
        cells: of the views with confusion matrices the counts of each client, see :func:`fedray.read_clients`.
        support: the number of its rows of each class, in words, ``[C]``; empty: not known.
        frequent: the class that most of its rows have, with its share, in words, ``[C]``; empty: not known.
    """

    clients: list[str]
    examples: NDArray[np.int64]
    values: Mapping[tuple[str, str], NDArray[np.float64]]
    cells: Mapping[str, list[list[dict[str, Any]]]]
    support: Sequence[str]
    frequent: Sequence[str]

    @classmethod
    def of(cls, run: Told) -> Evaluated | None:
        """Return that of a run; None if there is none."""
        part = newest_part(run.folder)
        if part is None:
            return None
        views, clients = part["view"].to_pylist(), part["client"].to_pylist()
        there = list(dict.fromkeys(client for client, view in zip(clients, views, strict=True) if view != TRAIN))
        place = {client: number for number, client in enumerate(there)}
        examples, values, cells = np.zeros(len(there), np.int64), {}, {}
        matrices = part[CONFUSION].to_pylist() if CONFUSION in part.column_names else []
        for view in VIEWS:
            lines = [line for line, one in enumerate(views) if one == view]
            where = [place[clients[line]] for line in lines]
            for metric in metrics_in(part) if lines else ():
                column = np.full(len(there), np.nan)
                column[where] = part[metric].to_numpy()[lines]
                values[view, metric] = column
            if lines:
                examples[where] = part["examples"].to_numpy()[lines]
            if any(matrices[line] for line in lines if matrices):
                own = {place[clients[line]]: matrices[line] or [] for line in lines}
                cells[view] = [own.get(number, []) for number in range(len(there))]
        counts = part[SUPPORT].to_pylist() if SUPPORT in part.column_names else []
        support = {client: of_each_class(own) for client, own in zip(clients, counts, strict=False) if own}
        often = {
            client: frequent_words(frequent_among(own)) for client, own in zip(clients, counts, strict=False) if own
        }
        words = [[found.get(client, "") for client in there] for found in (support, often)]
        return cls(there, examples, values, cells, *words)

    def has(self, view: str, metric: str) -> bool:
        """Tell if there is a metric of a view; ``own`` is the view of the models that clients would use."""
        return metric in self.of_view(view)

    def of_view(self, view: str) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of a view."""
        if view == OWN:
            view = "personal" if any(one == "personal" for one, _ in self.values) else "global"
        return {metric: values for (one, metric), values in self.values.items() if one == view}

    def same_clients(self, other: Evaluated) -> bool:
        """Tell if two runs have the same clients, with the same numbers of rows."""
        return self.clients == other.clients and bool((self.examples == other.examples).all())


def client_blocks(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield what is to be said of the clients of some settings."""
    charts = [*_spread_charts(settings[:MOST_CURVES]), *maps_of(settings)]
    if charts:
        yield Figures(charts)
    spread = list(_spread_rows(settings))
    if spread:
        seeds = ", averaged over seeds" if any(len(one.runs) > 1 for one in settings) else ""
        yield Table(
            [*(["setting"] if len(settings) > 1 else []), "metric", *SPREAD],
            spread,
            f"Spread over clients at the last evaluation{seeds}. mean: all their rows together; client_mean, std and "
            "percentiles: each client counts once; worst: the mean over the tenth of the clients that fares worst.",
        )
    yield from _side_by_side(settings)
    for one in settings[:MOST_CURVES]:
        yield from _table(one, shut=len(settings) > 1)


def _spread_rows(settings: Sequence[Setting]) -> Iterator[list[Cell]]:
    for one in settings:
        for section in VIEWS.values():
            for metric in metrics_of([one], section):
                found = [spread for run in one.runs if (spread := run.last(section).get(metric))]
                numbers = [_mean([spread.get(name) for spread in found]) for name in SPREAD]
                yield [*([one.label] if len(settings) > 1 else []), f"{section}.{metric}", *numbers]


def _spread_charts(settings: Sequence[Setting]) -> Iterator[Chart]:
    """Yield one chart for each view: the clients' values of the metric that stands for all.

    Where some settings have personal models and some have none, first one of the models that clients would use.
    """
    runs = {run.folder: Evaluated.of(run) for one in settings for run in one.runs}
    for view, section in {**({OWN: OWN} if mixed(settings) else {}), **VIEWS}.items():
        names = metrics_of(settings, section)
        found = [
            _Series(
                number,
                one.label,
                [(run, each) for run in one.runs if (each := runs[run.folder]) and each.has(view, names[0])],
            )
            for number, one in enumerate(settings if names else ())
        ]
        if found := [one for one in found if one.seen]:
            quantity = f"{section}.{names[0]}"
            what = f"{title_of(names[0])} of {WHOSE[section]} at the last evaluation ({quantity})"
            values = [one.values(view, names[0]) for one in found]
            name = f"spread-{view}-{_slug(names[0])}"
            yield _spread_chart(name, what, quantity, found, values, len(settings) > 1)


@dataclass(frozen=True)
class _Series:
    """A setting in a chart of the clients' values.

    Args:
        number: its place among the settings.
        label: its words.
        runs: its runs, by seed, each with its evaluation.
    """

    number: int
    label: str
    runs: Sequence[tuple[Told, Evaluated]]

    @property
    def seen(self) -> list[Evaluated]:
        """Its evaluations."""
        return [each for _, each in self.runs]

    @property
    def same(self) -> bool:
        """True if its seeds have the same clients, of which each has its mean then."""
        return all(each.same_clients(self.seen[0]) for each in self.seen)

    def values(self, view: str, metric: str) -> list[float]:
        """Return a value for each client: its mean over seeds, or where seeds have other clients those of all."""
        columns = [each.of_view(view)[metric] for each in self.seen]
        found: list[float] = (np.mean(columns, axis=0) if self.same else np.concatenate(columns)).tolist()
        return found

    @property
    def apart(self) -> bool:
        """True if its seeds tell its runs apart."""
        seeds = {run.seed for run, _ in self.runs}
        return all(seeds) and len(seeds) == len(self.runs)

    def owners(self, seeds: bool) -> list[tuple[str, str]]:
        """Return of each value the client, and its run by the seed or by the folder."""
        names = [run.seed if seeds else str(run.folder) for run, _ in self.runs]
        if self.same:
            name = names[0] if len(names) == 1 else f"mean of {len(names)}"
            return [(client, name) for client in self.seen[0].clients]
        return [(client, name) for name, each in zip(names, self.seen, strict=True) for client in each.clients]


def _spread_chart(
    name: str, what: str, quantity: str, found: Sequence[_Series], values: Sequence[list[float]], named: bool
) -> Chart:
    """Return the chart of the clients' values of a metric: a point for each, or of many a box for each setting."""
    numbers = [one.number for one in found]
    series = [(one.label, own) for one, own in zip(found, values, strict=True)]
    seen = [each for one in found for each in one.seen]
    several, seeds = not all(one.same for one in found), all(one.apart for one in found)
    head = ["client", "seed" if seeds else "run"][: 1 + several]
    of = Owners(head, [[owner[: len(head)] for owner in one.owners(seeds)] for one in found])
    few = len(seen[0].clients) <= _MOST_NAMED and all(one.same_clients(seen[0]) for one in seen)
    if not few and sum(map(len, values)) > _MOST_POINTS:
        more = any(len(own) > len(seen[0].clients) for own in values)
        whose = "the clients of all seeds" if more else "all clients"
        caption = (
            f"{what}, of {whose}. Box: the quartiles; line: the median; point: the mean; whiskers: the 10th and "
            "the 90th percentile; marks: the least and the most."
        )
        return Boxes(name, caption, quantity, series, numbers, of)
    names, x = (seen[0].clients, "client") if few else ((), "clients, sorted")
    return Points(
        name, f"{what}: a point for each client, and their mean.", x, quantity, series, names, numbers, named, of
    )


def _table(one: Setting, shut: bool) -> Iterator[Block]:
    found = [(run, each) for run in one.runs if (each := Evaluated.of(run))]
    if not found:
        return
    seen = [evaluated for _, evaluated in found]
    same = all(each.same_clients(seen[0]) for each in seen)
    used = seen if same else seen[:1]
    first = seen[0]
    columns = [key for key in first.values if all(key in each.values for each in used)]
    numbers = {key: np.mean([each.values[key] for each in used], axis=0) for key in columns}
    order, words = np.arange(len(first.clients)), "Held-out rows of each client at the last evaluation"
    if len(order) > MOST_CLIENTS:
        key = ranked_by(columns)
        sign = 1.0 if more_is_better(key[1]) else -1.0
        order = np.argsort(sign * numbers[key], kind="stable")[:MOST_CLIENTS]
        by = f"{VIEWS[key[0]]}.{key[1]}"
        words += f"; the {MOST_CLIENTS} of {counted(len(first.clients), 'client')} that fare worst by {by}"
    if len(seen) > 1:
        seeds = (
            f"; mean of {len(seen)} seeds" if same else f"; of seed {found[0][0].seed}: other seeds have other clients"
        )
        words += seeds
    classes = any(first.support)
    if classes and any(each.support != first.support for each in used):
        words += f"; rows of each class: of seed {found[0][0].seed}"
    head = [
        "client",
        "rows",
        *(["of each class"] if classes else []),
        *(f"{VIEWS[view]}.{metric}" for view, metric in columns),
    ]
    lines: list[list[Cell]] = [
        [
            first.clients[place],
            int(first.examples[place]),
            *([first.support[place]] if classes else []),
            *(float(numbers[key][place]) for key in columns),
        ]
        for place in order.tolist()
    ]
    if any(np.isnan(numbers[key][order]).any() for key in columns if key[1] != "loss"):
        words += "; nan: no value, as AUROC and the like have none where a client holds one class alone"
    title = f"Each client: {one.label}" if shut else "Each client" if len(lines) > 25 else ""
    yield Table(head, lines, f"{words}. clients/ in the run folder has every evaluation (fedray.read_clients).", title)
    if new := [words for run in one.runs if (words := _newcomers(run))]:
        yield Words("; ".join(new))
    if more := [lacking for run in one.runs if (lacking := _missing(run))]:
        yield Words("; ".join(more), warns=True)


def _side_by_side(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield for each metric a table of the clients that some settings have in common, a column for each setting.

    The metric that stands for all is shown, the others are folded; of very many clients there is none.
    """
    found = [(one, [each for run in one.runs if (each := Evaluated.of(run))]) for one in settings]
    found = [(one, seen) for one, seen in found if seen]
    every = [each for _, seen in found for each in seen]
    if len(found) < 2 or len(every[0].clients) > MOST_CLIENTS or not all(each.same_clients(every[0]) for each in every):
        return
    first, shown = every[0], [name for name in metrics_of([one for one, _ in found], OWN) if name != "loss"]
    for number, metric in enumerate(shown or ["loss"]):
        columns = [
            np.mean([each.of_view(OWN)[metric] for each in seen], axis=0)
            if all(each.has(OWN, metric) for each in seen)
            else np.full(len(first.clients), np.nan)
            for _, seen in found
        ]
        known = any(first.frequent) and all(each.frequent == first.frequent for each in every)
        rows: list[list[Cell]] = [
            [
                client,
                int(first.examples[place]),
                *([first.frequent[place]] if known else []),
                *(float(column[place]) for column in columns),
            ]
            for place, client in enumerate(first.clients)
        ]
        seeds = ", mean over seeds" if len(every) > len(found) else ""
        labels = {one.label for one, _ in found}
        told = "".join(f" {name}: {words}." for name, words in BASELINES.items() if name in labels)
        told += f" {FREQUENT}: what always saying it gives as accuracy." if known else ""
        yield Table(
            ["client", "rows", *([FREQUENT] if known else []), *(one.label for one, _ in found)],
            rows,
            f"{title_of(metric)} of {WHOSE[OWN]}, at the last evaluation{seeds} (own.{metric}).{told}",
            f"Clients side by side: {metric}" if number else "",
        )


def frequent_words(found: tuple[str, float] | None) -> str:
    """Return a class and its share in words.

    >>> frequent_words(("yes", 35 / 37)), frequent_words(None)
    ('yes 0.946', '')
    """
    return f"{found[0]} {found[1]:.3f}" if found else ""


def ranked_by(columns: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the column that clients are ranked by: of the most personal view, the metric after the loss."""
    view = max((view for view, _ in columns), key=list(VIEWS).index)
    metrics = [metric for one, metric in columns if one == view]
    return view, next((metric for metric in metrics if metric != "loss"), metrics[0])


def _newcomers(run: Told) -> str:
    """Say of how many clients what they keep was evaluated, where others had kept nothing yet."""
    evaluated = run.last("evaluated")
    everybody, known = evaluated.get("clients", 0), evaluated.get("taken_part")
    if known is None or known >= everybody:
        return ""
    of = f"{known:,} of {counted(everybody, 'client')}"
    return f"{run.folder}: {of} had taken part by the last evaluation, the others are evaluated as newcomers"


def _missing(run: Told) -> str:
    missing = run.last("evaluated").get("missing")
    return (
        f"{run.folder}: {counted(missing, 'client')} could not be evaluated, as nobody could reach them"
        if missing
        else ""
    )


def _mean(values: Sequence[float | None]) -> float:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else float("nan")


def _slug(text: str) -> str:
    return re.sub("[^A-Za-z0-9]+", "-", text)
