"""The numbers of each client in a round, and their spread over the clients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedray.core.messages import BlockReport, Floats, Ints
from fedray.core.metrics import more_is_better
from fedray.run.evaluation import HoldoutReport


@dataclass(frozen=True)
class ClientRows:
    """Numbers of some clients, seen in one way.

    Args:
        view: ``train``: of their training in the round; ``global``: of the global model on their held-out rows.
        clients: client indices ``[C]``, rising.
        examples: for each client the number of examples that its metrics are means over, ``[C]``.
        metrics: values of each client by name, float64 ``[C]``; ``loss`` is always there.
    """

    view: str
    clients: Ints
    examples: Ints
    metrics: dict[str, Floats]


def trained(reports: Sequence[BlockReport]) -> ClientRows:
    """Return what each client said of its training: the mean loss over the examples that it used."""
    none = np.zeros(0, dtype=np.int64)
    clients = np.concatenate([none, *(report.clients for report in reports)])
    order = np.argsort(clients)
    examples = np.concatenate([none, *(report.examples for report in reports)])[order]
    loss = np.concatenate([np.zeros(0), *(report.loss for report in reports)])[order]
    return ClientRows("train", clients[order], examples, {"loss": loss})


def held_out(reports: Sequence[HoldoutReport]) -> ClientRows | None:
    """Return the metrics of each client's held-out rows; None if nobody could be reached."""
    seen = [report for report in reports if not report.failures]
    if not seen:
        return None
    clients = np.concatenate([report.clients for report in seen])
    order = np.argsort(clients)
    examples = np.concatenate([report.examples for report in seen])[order]
    sums = {name: np.concatenate([report.sums[name] for report in seen])[order] for name in seen[0].sums}
    return ClientRows("global", clients[order], examples, {name: values / examples for name, values in sums.items()})


def spread(rows: ClientRows) -> dict[str, dict[str, float]]:
    """Describe how each metric spreads over clients.

    ``mean`` is over examples; ``client_mean``, ``std`` and the percentiles ``p10``, ``p50`` and ``p90`` count each
    client once, the standard deviation as that of all there are (divided by C).  ``worst`` is the mean over the tenth
    of the clients, rounded up, that the metric is worst for.

    >>> rows = ClientRows("global", np.array([0, 1]), np.array([30, 10]), {"accuracy": np.array([1.0, 0.5])})
    >>> {name: round(value, 3) for name, value in spread(rows)["accuracy"].items()}
    {'mean': 0.875, 'client_mean': 0.75, 'std': 0.25, 'p10': 0.55, 'p50': 0.75, 'p90': 0.95, 'worst': 0.5}
    """
    result: dict[str, dict[str, float]] = {}
    for name, values in rows.metrics.items():
        low, middle, high = np.percentile(values, [10, 50, 90])
        rising, tenth = np.sort(values), math.ceil(len(values) / 10)
        found = {
            "mean": (values * rows.examples).sum() / rows.examples.sum(),
            "client_mean": values.mean(),
            "std": values.std(),
            "p10": low,
            "p50": middle,
            "p90": high,
            "worst": (rising[:tenth] if more_is_better(name) else rising[-tenth:]).mean(),
        }
        result[name] = {key: float(value) for key, value in found.items()}
    return result
