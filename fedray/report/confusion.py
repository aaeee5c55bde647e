"""The confusion matrices of runs: of the test set, of all clients together, and of single clients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedray.core.errors import counted
from fedray.core.record import VIEWS, more_is_better
from fedray.metrics.confused import Confused
from fedray.report.blocks import Block, Figures, Words
from fedray.report.charts import Chart, Matrix
from fedray.report.clients import CONFUSION, Evaluated, ranked_by
from fedray.report.told import Setting

MOST_OF_CLIENTS = 12
"""The number of clients whose own matrices are shown."""

_MOST_MAPS = 4
_WHERE = {
    "test": "the test set",
    "clients_test": "the clients' own rows",
    "clients_personal": "the clients' own rows, each by its own model",
    "clients_finetuned": "the clients' own rows, after fine-tuning",
}


def confusion_blocks(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield the confusion matrices of some settings; those of single clients where there is one setting."""
    charts: list[Chart] = []
    for position, one in enumerate(settings[:_MOST_MAPS]):
        for section, words in _WHERE.items():
            found = [m for run in one.runs if (m := Confused.of(run.table(section, CONFUSION)))]
            if not found:
                continue
            every = replace(found[0], counts=np.sum([one.counts for one in found], axis=0))
            of = f"{one.label}: examples" if len(settings) > 1 else "Examples"
            seeds = f", summed over {len(found)} seeds" if len(found) > 1 else ""
            name = f"confusion-{section.replace('_', '-')}" + (f"-{position + 1}" if len(settings) > 1 else "")
            caption = f"{of} of {words} by their class and the predicted one{seeds}; the darker, the larger its share."
            charts.append(_chart(name, caption, every))
    if charts:
        yield Figures(charts)
    if len(settings) == 1:
        yield from _of_clients(settings[0])


def _chart(name: str, caption: str, found: Confused) -> Matrix:
    counts, shares = found.counts.tolist(), found.shares.tolist()
    return Matrix(name, caption, found.rows, found.columns, counts, shares, found.x, found.y)


def _of_clients(one: Setting) -> Iterator[Block]:
    """Yield the matrix of each client at the last evaluation, in the most personal view."""
    runs = [(run, found) for run in one.runs if (found := Evaluated.of(run)) and found.cells]
    if not runs:
        return
    run, first = runs[0]
    view = max(first.cells, key=list(VIEWS).index)
    used = [found for _, found in runs if first.same_clients(found) and view in found.cells]
    if len(used) < len(runs):
        used = used[:1]
    classes = [str(name) for name in run.table(VIEWS[view], CONFUSION).get("classes", ())]
    every: list[list[Any]] = [
        [cell for found in used for cell in found.cells[view][place]] for place in range(len(first.clients))
    ]
    named = {cell.get("class", cell["true"]) for cells in every for cell in cells}
    named |= {cell["predicted"] for cells in every for cell in cells if "class" not in cell}
    classes += sorted(named - set(classes))
    there = [place for place, cells in enumerate(every) if cells]
    shown, words = there, f"The matrix of each client, of {_WHERE[VIEWS[view]]} at the last evaluation"
    if len(there) > MOST_OF_CLIENTS:
        key = ranked_by([own for own in first.values if own[0] == view])
        sign = 1.0 if more_is_better(key[1]) else -1.0
        worst = np.argsort(sign * first.values[key], kind="stable").tolist()
        shown = [place for place in worst if every[place]][:MOST_OF_CLIENTS]
        words += f"; those of the {len(shown)} of {counted(len(there), 'client')} that fare worst by {key[1]}"
    if len(runs) > 1:
        words += f"; summed over {len(used)} seeds" if len(used) > 1 else f"; of seed {run.seed}"
    charts: list[Chart] = []
    for number, place in enumerate(shown, 1):
        matrix = Confused.of_cells(every[place], classes)
        if matrix is not None:
            caption = f"{first.clients[place]}: {counted(int(matrix.counts.sum()), 'example')}"
            charts.append(_chart(f"confusion-client-{number}", caption, matrix))
    yield Words(f"{words}. clients/ in the run folder has all (fedray.read_clients).")
    yield Figures(charts)
