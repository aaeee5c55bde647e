"""The number of rows of each class, which the metrics of single classes rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedray.core.one_answer import OneAnswer
from fedray.metrics.confusion import SPAN, Confusion
from fedray.metrics.sums import State

MOST_CLASSES = 50
"""The classes above which they are not counted for each client."""


@dataclass(frozen=True)
class Support(Confusion):
    """The number of examples of each class, in the table of clients: two negatives make an AUROC, and not a good one.

    It is measured where a metric ``rests_on_classes``, such as AUROC or the sensitivity.  In ``tables`` of a record it
    is of all examples together, with the number that were taken for each class.

    >>> import torch
    >>> from fedray.tasks import inferred
    >>> logits, target = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    >>> metric = Support().of(inferred(logits, target))
    >>> metric.cells(metric.state(logits, target))
    [{'class': '0', 'count': 1}, {'class': '1', 'count': 2}]
    >>> metric.table(metric.state(logits, target))
    {'classes': ['0', '1'], 'counts': [1, 2], 'said': [2, 1], 'examples': 3}
    """

    name: ClassVar[str] = "support"
    by_client: ClassVar[bool] = True
    label: str | None = None

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return a key for each position, and a one for each example."""
        return {**super().update(output, target), "examples": torch.ones(len(output))}

    def compute(self, state: State) -> dict[str, float]:
        """Return nothing: they are counts."""
        return {}

    def of_client(self, state: State) -> State:
        """Return the counts alone: a tensor for each of many clients would hold what all of them share."""
        return {name: part for name, part in state.items() if name in self.counted}

    def cells(self, state: State) -> list[dict[str, Any]]:
        """Return the ``count`` of each ``class``, also of those without examples."""
        found = self._table(state)
        return [{"class": name, "count": n} for name, n in zip(found["classes"], found["counts"], strict=True)]

    def only(self, state: State) -> OneAnswer | None:
        """Return the class that is the answer for all examples of some sums, though they are of several."""
        pairs = state["pairs"]
        actual, said = pairs.keys // SPAN, pairs.keys % SPAN
        if self.task.several or len(said) < 2 or (said != said[0]).any():
            return None
        known = self.task.classes
        name = known[said[0]] if said[0] < len(known) else str(said[0])
        return OneAnswer(name, int(pairs.counts[actual != said].sum()), int(pairs.counts.sum()))

    def table(self, state: State) -> dict[str, Any] | None:
        """Return ``classes``, how many each has (``counts``), how many were taken for it (``said``), and ``examples``.

        Of examples with several positions, as pixels, these are counted.  None where each class is a question of its
        own.
        """
        return None if self.task.several else self._table(state) | {"examples": int(state["examples"])}

    def _table(self, state: State) -> dict[str, Any]:
        found = self.cases(state)
        counts, said = ((found.tp + other).long().tolist() for other in (found.fn, found.fp))
        names = [*self.task.classes, *map(str, range(len(self.task.classes), len(counts)))]
        return {"classes": names, "counts": counts, "said": said}
