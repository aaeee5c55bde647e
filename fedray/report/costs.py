"""The cost of runs: time, processors, energy, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedray.core.record import headline, limits, title
from fedray.report.blocks import Block, Cell, Figures, Table
from fedray.report.charts import Curve, Curves
from fedray.report.progress import MOST_CURVES, metrics_of
from fedray.report.told import Setting, Told


def cost_blocks(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield what some settings have cost; numbers that nobody measured are left out."""
    lines = [(one.label, _costs(one.runs)) for one in settings]
    names = list(dict.fromkeys(name for _, found in lines for name in found))
    if not names:
        return
    seeds = max(len(one.runs) for one in settings)
    head = ["setting" if len(settings) > 1 else "run", *names]
    rows: list[list[Cell]] = [[label, *(found.get(name) for name in names)] for label, found in lines]
    each = "; of each run, mean over seeds" if seeds > 1 else ""
    yield Table(
        head,
        rows,
        f"Totals of all rounds{each}. MB down and up: what the clients would receive and send over a network; between "
        "nodes: what did cross.",
    )
    phases = list(dict.fromkeys(name for one in settings for run in one.runs for name in _phases(run)))
    if phases:
        rows = [
            [one.label, *(_mean([_phases(run).get(name) for run in one.runs]) for name in phases)] for one in settings
        ]
        yield Table([head[0], *phases], rows, "Seconds of a round by phase, mean over rounds.", "Where the time goes")
    if chart := bytes_chart(settings[:MOST_CURVES]):
        yield Figures([chart])


def bytes_chart(settings: Sequence[Setting]) -> Curves | None:
    """Return the metric that stands for all over what clients sent and received, where settings differ in that."""
    names = metrics_of(settings, "test")
    if not names or len(settings) < 2:
        return None
    metric, curves = headline(names), []
    for number, one in enumerate(settings):
        run = one.runs[0]
        series, sent, x, y = run.series("test", metric), 0, [], []
        for record in run.records:
            sent += sum(record.get("bytes", {}).get(way, 0) for way in ("down", "up"))
            if record["round"] in series:
                x.append(sent / 1e6)
                y.append(series[record["round"]])
        if sent:
            curves.append(Curve(one.label, x, y, number=number))
    if len({round(one.x[-1] / max(1, len(one.x)), 3) for one in curves if one.x}) < 2:
        return None
    caption = (
        f"{title(metric)} on the test set over the megabytes that all clients have received and sent; the first seed "
        "of each."
    )
    return Curves("test-over-bytes", caption, "MB down and up", f"test.{metric}", curves, False, True, limits(metric))


def _costs(runs: Sequence[Told]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in runs:
        totals = run.status.totals
        told = {
            "seconds": totals.wall_seconds,
            "CPU seconds": totals.cpu_seconds,
            "GPU seconds": totals.gpu_seconds,
            "GPU Wh": totals.joules / 3600,
            "MB down": _bytes(run, "down"),
            "MB up": _bytes(run, "up"),
            "MB between nodes": totals.network / 1e6,
            "worker MB": totals.rss / 1e6,
            "GPU MB": totals.gpu_memory / 1e6,
        }
        for name, value in told.items():
            if value:
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _bytes(run: Told, way: str) -> float:
    return float(sum(record.get("bytes", {}).get(way, 0) for record in run.records)) / 1e6


def _phases(run: Told) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in run.records:
        for name, seconds in record.get("phases", {}).items() if record["round"] else ():
            found.setdefault(name, []).append(float(seconds))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
