"""Confusion matrices as records have them, laid out as one map of counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Confused:
    """The counts of a confusion matrix.

    >>> Confused.of({"classes": ["no", "yes"], "counts": [[8, 1], [0, 5]]}).columns
    ['no', 'yes']
    >>> several = Confused.of({"classes": ["cough", "fever"], "counts": [[[8, 1], [0, 5]], [[9, 0], [2, 3]]]})
    >>> several.counts.tolist(), several.columns
    ([[8, 1, 0, 5], [9, 0, 2, 3]], ['TN', 'FP', 'FN', 'TP'])

    Args:
        rows: names of the rows: the true classes; the classes, where each is a question of its own.
        columns: names of the columns: the predicted classes; how a question was answered.
        counts: examples, int64 ``[rows, columns]``.
        x: the words for the columns.
        y: the words for the rows.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    counts: NDArray[np.int64]
    x: str = "predicted"
    y: str = "true"

    @classmethod
    def of(cls, table: Any) -> Confused | None:
        """Return what a table of a record holds; None: it is no confusion matrix."""
        if not isinstance(table, Mapping) or not {"classes", "counts"} <= table.keys():
            return None
        names, counts = [str(name) for name in table["classes"]], np.asarray(table["counts"], np.int64)
        if counts.shape == (len(names), len(names)):
            return cls(names, names, counts)
        if counts.shape == (len(names), 2, 2):
            return cls(names, ["TN", "FP", "FN", "TP"], counts.reshape(-1, 4), "answers", "class")
        return None

    @classmethod
    def of_cells(cls, cells: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Confused | None:
        """Return what the table of clients holds of one client; None: it holds no confusion matrix.

        >>> cells = [{"true": "no", "predicted": "no", "count": 8}, {"true": "yes", "predicted": "no", "count": 2}]
        >>> Confused.of_cells(cells, ["no", "yes"]).counts.tolist()
        [[8, 0], [2, 0]]

        Args:
            cells: records of the counts above zero.
            classes: the names of all classes.
        """
        if not cells or not {"true", "predicted", "count"} <= cells[0].keys():
            return None
        place, size = {name: number for number, name in enumerate(classes)}, len(classes)
        if "class" in cells[0]:
            counts = np.zeros((size, 2, 2), np.int64)
            for cell in cells:
                counts[place[cell["class"]], int(cell["true"]), int(cell["predicted"])] += cell["count"]
        else:
            counts = np.zeros((size, size), np.int64)
            for cell in cells:
                counts[place[cell["true"]], place[cell["predicted"]]] += cell["count"]
        return cls.of({"classes": classes, "counts": counts})

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each count of its row."""
        shares: NDArray[np.float64] = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return shares
