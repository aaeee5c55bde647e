"""The numbers of each client in a round, and their spread over the clients."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import BlockReport
from fedray.core.one_answer import OneAnswer
from fedray.core.record import VIEWS, RoundRecord, more_is_better
from fedray.metrics.measures import Measures, together
from fedray.run.evaluation import HoldoutReport
from fedray.rundir.client_table import TRAIN, ClientRows
from fedray.rundir.each_client import SUPPORT

SPREAD = ("mean", "client_mean", "std", "p10", "p50", "p90", "worst")
"""The numbers of a metric over clients, see :func:`spread`."""

_log = logging.getLogger(__name__)


def of_training(reports: Sequence[BlockReport]) -> ClientRows:
    """Return what each client said of its training: the mean loss over the examples that it used.

    Where a loss counts positions, NaN for a client none of whose counts.
    """
    none = np.zeros(0, dtype=np.int64)
    clients = np.concatenate([none, *(report.clients for report in reports)])
    order = np.argsort(clients)
    examples = np.concatenate([none, *(report.examples for report in reports)])[order]
    each = (r.loss if r.counted is None else np.where(r.counted > 0, r.loss, np.nan) for r in reports)
    loss = np.concatenate([np.zeros(0), *each])[order]
    return ClientRows(TRAIN, clients[order], examples, {"loss": loss})


def columns(rows: ClientRows) -> dict[str, Tensor]:
    """Return what ``of_training`` has returned as tensors, each ``[C]``."""
    found = {"clients": rows.clients, "examples": rows.examples, "loss": rows.metrics["loss"]}
    return {name: torch.from_numpy(column) for name, column in found.items()}


def from_columns(tensors: Mapping[str, Tensor]) -> ClientRows:
    """Make what ``of_training`` has returned of its ``columns``."""
    found = {name: tensor.numpy() for name, tensor in tensors.items()}
    return ClientRows(TRAIN, found["clients"], found["examples"], {"loss": found["loss"]})


def held_out(reports: Sequence[HoldoutReport], measures: Measures) -> list[ClientRows]:
    """Return the metrics of what each client was evaluated on, by view; none if nobody could be reached."""
    seen = [report for report in reports if len(report.clients)]
    if not seen:
        return []
    clients = np.concatenate([report.clients for report in seen])
    order = np.argsort(clients)
    examples = np.concatenate([report.examples for report in seen])[order]
    found = []
    for view, metrics in seen[0].sums.items():
        sums = {name: np.concatenate([report.sums[view][name] for report in seen])[order] for name in metrics}
        values = {name: column / examples for name, column in sums.items()}
        numbers = [report.numbers.get(view, {}) for report in seen]
        for name in dict.fromkeys(name for one in numbers for name in one):
            columns = [one.get(name, np.full(len(r.clients), np.nan)) for one, r in zip(numbers, seen, strict=True)]
            values[name] = np.concatenate(columns)[order]
        states = together(report.states.get(view, {}) for report in seen)
        whole, tables = measures.numbers(states), measures.tables(states)
        cells, only = _cells(seen, view, order.tolist(), measures), _only(seen, view, measures)
        found.append(ClientRows(view, clients[order], examples, values, whole, tables, cells, only))
    return found


def _only(reports: Sequence[HoldoutReport], view: str, measures: Measures) -> dict[int, OneAnswer]:
    """Return the clients all of whose examples, of several classes, have one answer, where that is known."""
    each = (
        (client, one)
        for report in reports
        for client, one in zip(
            report.clients.tolist(), measures.only(report.apart.get(view, {}).get(SUPPORT, ())), strict=False
        )
    )
    return {client: one for client, one in each if one is not None}


def _cells(
    reports: Sequence[HoldoutReport], view: str, order: Sequence[int], measures: Measures
) -> dict[str, list[list[dict[str, Any]] | None]]:
    """Return what each client has of the metrics that are no numbers, in an order of all clients of the reports."""
    titles = dict.fromkeys(title for report in reports for title in report.apart.get(view, ()))
    found = {}
    for title in titles:
        every = [s for r in reports for s in r.apart.get(view, {}).get(title, [{}] * len(r.clients))]
        found[title] = [measures.cells(title, every[place]) for place in order]
    return found


def evaluated_in(
    record: RoundRecord, reports: Sequence[HoldoutReport], measures: Measures, without: int = 0
) -> list[ClientRows]:
    """Tell a record of the clients' evaluation, the log of who is missing in it, and return ``held_out``.

    Args:
        record: the record.
        reports: of the evaluation.
        measures: its metrics.
        without: the number of clients that have nothing to be evaluated on.
    """
    missing = [failure for report in reports for failure in report.failures]
    for one in missing:
        _log.warning("round %d: client %r was not evaluated (%s): %s", one.round, one.name, one.stage, one.error)
    views = held_out(reports, measures)
    record.evaluated = {"clients": len(views[0].clients) if views else 0, "missing": len(missing)}
    if without:
        record.evaluated["without"] = without
    taken_part = [report.taken_part for report in reports if report.taken_part is not None]
    if taken_part:
        record.evaluated["taken_part"] = sum(taken_part)
    if fitted := sum(report.fitted for report in reports):
        record.evaluated["fitted"] = fitted
    for rows in views:
        setattr(record, VIEWS[rows.view], spread(rows))
        if rows.tables:
            record.tables[VIEWS[rows.view]] = dict(rows.tables)
    return views


def spread(rows: ClientRows) -> dict[str, dict[str, float]]:
    """Describe how each metric spreads over clients.

    ``mean`` is of the examples of all clients together; ``client_mean``, ``std`` and the percentiles ``p10``, ``p50``
    and ``p90`` count each client once, the standard deviation as that of all there are (divided by C).  ``worst`` is
    the mean over the tenth of the clients, rounded up, that the metric is worst for.

    Clients whose examples give a metric no value, such as an AUROC of one class, are left out of all but the mean.

    >>> rows = ClientRows("global", np.array([0, 1]), np.array([30, 10]), {"accuracy": np.array([1.0, 0.5])})
    >>> {name: round(value, 3) for name, value in spread(rows)["accuracy"].items()}
    {'mean': 0.875, 'client_mean': 0.75, 'std': 0.25, 'p10': 0.55, 'p50': 0.75, 'p90': 0.95, 'worst': 0.5}
    """
    result: dict[str, dict[str, float]] = {}
    for name, values in rows.metrics.items():
        if name in rows.whole:
            mean, values = rows.whole[name], values[~np.isnan(values)]
            if not len(values):
                result[name] = {key: float("nan") for key in SPREAD} | {"mean": float(mean)}
                continue
        else:
            mean = (values * rows.examples).sum() / rows.examples.sum()
        low, middle, high = np.percentile(values, [10, 50, 90])
        rising, tenth = np.sort(values), math.ceil(len(values) / 10)
        found = {
            "mean": mean,
            "client_mean": values.mean(),
            "std": values.std(),
            "p10": low,
            "p50": middle,
            "p90": high,
            "worst": (rising[:tenth] if more_is_better(name) else rising[-tenth:]).mean(),
        }
        result[name] = {key: float(value) for key, value in found.items()}
    return result
