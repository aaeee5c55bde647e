"""Numbers and confusion matrices of single clients, by their table in the run folder, for curves and images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fedray.core.record import VIEWS, RoundRecord
from fedray.data.picture import chosen_clients
from fedray.metrics.confused import Confused
from fedray.rundir.client_table import TRAIN, metrics_in
from fedray.tracking.charts import EACH
from fedray.tracking.described import description_of_client

if TYPE_CHECKING:
    import pyarrow

MOST_CLIENTS = 50
"""Clients that have curves and images of their own; of more, so many, evenly picked."""

MOST_CLASSES = 50
"""Classes up to which the confusion matrices of single clients are drawn."""


def numbers(part: pyarrow.Table) -> dict[str, tuple[float, Callable[[], str]]]:
    """Return the numbers of single clients by their tags, each with what makes its description.

    Args:
        part: of the table of clients, that of one evaluation.
    """
    metrics = metrics_in(part)
    return {
        f"{_where(view)}/{metric}/{row['client']}": (
            float("nan") if row[metric] is None else row[metric],
            partial(description_of_client, view, metric, row["client"]),
        )
        for view, row in _rows(part)
        for metric in metrics
    }


def matrices(part: pyarrow.Table, record: RoundRecord) -> Iterator[tuple[str, Confused]]:
    """Yield the confusion matrices of single clients with their tags.

    Args:
        part: of the table of clients, that of one evaluation.
        record: of its round, which knows the classes.
    """
    for view, row in _rows(part):
        for title, table in record.tables.get(VIEWS[view], {}).items():
            classes = [str(name) for name in table["classes"]] if Confused.of(table) is not None else []
            cells = row.get(title)
            if cells and 0 < len(classes) <= MOST_CLASSES:
                matrix = Confused.of_cells(cells, classes)
                if matrix is not None:
                    yield f"{_where(view)}/{title}/{row['client']}", matrix


def _rows(part: pyarrow.Table) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a row of each chosen client and each view of an evaluation, with the view."""
    import pyarrow.compute as pc

    for view in pc.unique(part["view"]).to_pylist():
        if view != TRAIN:
            own = part.filter(pc.equal(part["view"], view))
            for row in own.take(chosen_clients(len(own), MOST_CLIENTS)).to_pylist():
                yield view, row


def _where(view: str) -> str:
    return EACH if view == "global" else f"{EACH}/{view}"
