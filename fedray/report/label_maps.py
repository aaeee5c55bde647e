"""Maps of labels: which classes each client holds, of settings on other data one of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedray.core.errors import counted
from fedray.data.picture import chosen_clients
from fedray.report.charts import Matrix
from fedray.report.told import Setting, Told
from fedray.rundir.names import LABELS

_MOST_COLUMNS, _MOST_MAPS = 100, 4


def maps_of(settings: Sequence[Setting]) -> Iterator[Matrix]:
    """Yield the map of labels; where settings have other clients, or other rows of them, one of each of these."""
    found: list[tuple[Setting, Matrix]] = []
    seen: list[dict[str, Any]] = []
    for one in settings:
        labels = next(filter(None, map(labels_in, one.runs)), None)
        if labels is not None and labels not in seen:
            seen.append(labels)
            found.extend((one, chart) for chart in label_maps(one.runs))
    for number, (one, chart) in enumerate(found[:_MOST_MAPS], start=1):
        if len(found) == 1:
            yield chart
            continue
        more = f" Of {len(found)} such maps the first {_MOST_MAPS}." if len(found) > _MOST_MAPS == number else ""
        name = chart.name if number == 1 else f"{chart.name}-{number}"
        yield replace(chart, name=name, caption=f"{one.label}: {chart.caption}{more}")


def label_maps(runs: Sequence[Told]) -> Iterator[Matrix]:
    """Yield the map of the clients' labels, if a run folder has one; of the first run that has."""
    for run in runs:
        found = labels_in(run)
        if not found:
            continue
        counts = np.asarray(found["counts"], np.int64)
        shown = chosen_clients(len(counts), _MOST_COLUMNS)
        names = [found["clients"][place] for place in shown]
        classes = found["classes"] or [str(number) for number in range(counts.shape[1])]
        part = "" if len(shown) == found["of"] else f", {len(shown)} of {counted(found['of'], 'client')}, evenly picked"
        other = any(other and other["counts"] != found["counts"] for other in map(labels_in, runs))
        seed = f" The map is of seed {run.seed}; other seeds have other clients." if other else ""
        caption = f"Training examples of each class at each client{part}; the darker, the larger.{seed}"
        # Roots: a large client must not make all others white.
        shades = np.sqrt(counts[shown].T / max(1, counts[shown].max(initial=0)))
        values = counts[shown].T.tolist()
        yield Matrix("labels", caption, classes, names, values, shades.tolist(), "client", "class")
        return


def labels_in(run: Told) -> dict[str, Any]:
    """Return the label counts of a run's clients, as ``labels.json`` has them; empty: it has none."""
    try:
        content: dict[str, Any] = json.loads((run.folder / LABELS).read_bytes())
    except (OSError, ValueError):
        return {}
    return content
