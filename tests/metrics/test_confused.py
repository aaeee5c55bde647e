"""The counts of confusion matrices as one map."""

from __future__ import annotations

import pytest
import torch

from fedray.data import DataSpec
from fedray.metrics import metrics
from fedray.metrics.confused import Confused
from fedray.tasks import tasks


def test_classes_and_what_they_were_taken_for() -> None:
    metric = metrics["confusion_matrix"]().of(tasks["classification"]())
    output, target = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    found = Confused.of(metric.table(metric.state(output, target)))
    assert found is not None
    assert (found.counts.tolist(), found.shares.tolist()) == ([[1, 0], [1, 1]], [[1.0, 0.0], [0.5, 0.5]])
    assert (found.rows, found.columns, found.x, found.y) == (["0", "1"], ["0", "1"], "predicted", "true")


def test_questions_of_their_own_have_a_row_each() -> None:
    task = tasks["multilabel"]().of(DataSpec((1,), 2), (3, 2))
    metric = metrics["confusion_matrix"]().of(task)
    output = torch.tensor([[2.0, -1.0], [-2.0, 1.0], [3.0, 1.0]])
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = Confused.of(metric.table(metric.state(output, target)))
    assert found is not None
    assert found.columns == ["TN", "FP", "FN", "TP"]
    assert found.counts.tolist() == [[0, 1, 1, 1], [1, 1, 0, 1]]


@pytest.mark.parametrize("table", [None, 3, [], {"counts": [[1]]}, {"classes": ["a"], "counts": [[1, 2]]}])
def test_other_tables_are_no_such_map(table: object) -> None:
    assert Confused.of(table) is None
