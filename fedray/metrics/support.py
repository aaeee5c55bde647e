"""The number of rows of each class, which the metrics of single classes rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fedray.metrics.confusion import Confusion
from fedray.metrics.sums import State

MOST_CLASSES = 50
"""The classes above which they are not counted for each client."""


@dataclass(frozen=True)
class Support(Confusion):
    """The number of examples of each class, in the table of clients: two negatives make an AUROC, and not a good one.

    It is measured where a metric ``rests_on_classes``, such as AUROC or the sensitivity.

    >>> import torch
    >>> from fedray.tasks import inferred
    >>> logits, target = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    >>> metric = Support().of(inferred(logits, target))
    >>> metric.cells(metric.state(logits, target))
    [{'class': '0', 'count': 1}, {'class': '1', 'count': 2}]
    """

    name: ClassVar[str] = "support"
    by_client: ClassVar[bool] = True
    label: str | None = None

    def compute(self, state: State) -> dict[str, float]:
        """Return nothing: they are counts."""
        return {}

    def cells(self, state: State) -> list[dict[str, Any]]:
        """Return the ``count`` of each ``class``, also of those without examples."""
        found = self.cases(state)
        counts = (found.tp + found.fn).long().tolist()
        names = [*self.task.classes, *map(str, range(len(self.task.classes), len(counts)))]
        return [{"class": name, "count": count} for name, count in zip(names, counts, strict=True)]
