"""Curves over rounds: the mean over seeds with its interval, or of one run what clients spread over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fedray.core.record import OWN, VIEWS, headline, limits, title
from fedray.report.charts import SERIES, Curve, Curves
from fedray.report.told import Setting, Told
from fedray.sweep.table import CONFIDENCE, student_quantile

MOST_CURVES = 8
"""The number of settings that one chart can tell apart."""

WHOSE = {
    OWN: "the model that each client would use, its own or else the global one, on its own rows",
    "clients_test": "the global model on the clients' own rows",
    "clients_personal": "each client's own model on its rows",
    "clients_finetuned": "the global model, fine-tuned by each client, on its rows",
}
_MOST_METRICS = 5


def progress_charts(settings: Sequence[Setting]) -> Iterator[Curves]:
    """Yield the charts over rounds: of the test set, of clients, of the training."""
    shown = settings[:MOST_CURVES]
    for metric in metrics_of(shown, "test")[:_MOST_METRICS]:
        yield _chart(shown, "test", metric, f"{title(metric)} on the test set")
    if mixed(shown):
        first = metrics_of(shown, OWN)[0]
        yield _chart(shown, OWN, first, f"{title(first)} of {WHOSE[OWN]}, mean over clients", "client_mean")
        what = f"{title(first)} of {WHOSE[OWN]}, mean over the tenth of the clients that fares worst"
        yield _chart(shown, OWN, first, what, "worst")
    for view in VIEWS.values():
        names = metrics_of(shown, view)
        for metric in names[:_MOST_METRICS]:
            yield _chart(shown, view, metric, f"{title(metric)} of {WHOSE[view]}", "mean")
        if names:
            what = f"{title(names[0])} of {WHOSE[view]}, mean over the tenth of the clients that fares worst"
            yield _chart(shown, view, names[0], what, "worst")
    if metrics_of(shown, "train"):
        yield _chart(shown, "train", "loss", "Training loss, mean over the examples of the round")


def mixed(settings: Sequence[Setting]) -> bool:
    """Tell if clients have models of their own in some settings, and none in others."""
    return len({run.personal for one in settings for run in one.runs} - {None}) > 1


def metrics_of(settings: Sequence[Setting], section: str) -> list[str]:
    """Return the metrics of a section, the one that stands for all first, the loss last."""
    names = dict.fromkeys(name for one in settings for run in one.runs for name in run.last(section))
    names.pop("lr", None)
    if not names:
        return []
    first = headline(list(names))
    return sorted(names, key=lambda name: (name != first, name == "loss"))


def _chart(settings: Sequence[Setting], section: str, metric: str, what: str, spread: str | None = None) -> Curves:
    curves, band = list[Curve](), ""
    for number, one in enumerate(settings):
        found = [series for run in one.runs if (series := run.series(section, metric, spread))]
        curve = over_seeds(one.label, found) if found else None
        if curve is not None and len(curve.x):  # a name without a curve would stand in the legend
            curves.append(replace(curve, number=number))
    alone = len(settings) == 1 and len(settings[0].runs) == 1 and spread == "mean" and bool(curves)
    quantity = f"{section}.{metric}" + (f".{spread}" if spread == "worst" else "")
    if alone:
        curves = [replace(curves[0], name="all rows together"), _median(settings[0].runs[0], section, metric)]
        band = "; the band: 10th to 90th percentile of clients"
    elif (most := max((len(one.runs) for one in settings), default=1)) > 1:
        band = f"; mean of {most} seeds, the band is its 95 % confidence interval"
    ends = limits(metric)
    if any(end < ends[0] or end > ends[1] for one in curves for end in (*one.low, *one.high)):
        band += f", drawn from {ends[0]:g} to {ends[1]:g}"
    named = len(settings) > 1 or alone
    each = ", all rows together" if spread == "mean" and not alone else ""
    caption = f"{what}{each} ({quantity}){band}."
    return Curves(re.sub("[^A-Za-z0-9]+", "-", quantity), caption, "round", quantity, curves, named=named, limits=ends)


def over_seeds(label: str, found: Sequence[dict[int, float]]) -> Curve:
    """Return the mean of curves, with its 95 % confidence interval by Student's t, over the rounds that all have.

    >>> curve = over_seeds("fedavg", [{1: 0.5, 2: 0.75}, {1: 0.7}])
    >>> curve.x, round(curve.y[0], 3), round(curve.low[0], 3)
    ([1], 0.6, -0.671)

    Args:
        label: the words of the legend.
        found: values by round, for each seed; at least one.
    """
    rounds = sorted(set.intersection(*(set(one) for one in found)))
    values = np.array([[one[round] for round in rounds] for one in found], float).reshape(len(found), -1)
    mean = values.mean(axis=0)
    if len(found) < 2:
        return Curve(label, rounds, mean.tolist())
    half = values.std(axis=0, ddof=1) / np.sqrt(len(found)) * student_quantile(0.5 + CONFIDENCE / 2, len(found) - 1)
    return Curve(label, rounds, mean.tolist(), (mean - half).tolist(), (mean + half).tolist())


def _median(run: Told, section: str, metric: str) -> Curve:
    """Return the curve of the median client of a run, with a band from the 10th to the 90th percentile of clients."""
    middle, low, high = (run.series(section, metric, name) for name in ("p50", "p10", "p90"))
    x = [round for round in middle if round in low and round in high]
    y, least, most = ([one[round] for round in x] for one in (middle, low, high))
    return Curve("median client", x, y, least, most, number=len(SERIES) - 1)
