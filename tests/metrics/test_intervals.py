"""Intervals of shares, against scipy, and of which numbers there are some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fedray.data.spec import DataSpec
from fedray.metrics import F1, Accuracy, Metric, Precision, Recall, Sensitivity, Specificity, measured
from fedray.metrics.intervals import intervals, of_classes, usual, wilson
from fedray.metrics.sums import on_host
from fedray.tasks import Binary, Classification, Multilabel, Segmentation, Task

SPEC = DataSpec((4,), 2, classes=("well", "ill"))


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))), st.floats(0.5, 0.999))
def test_they_are_scipys(case: tuple[int, int], confidence: float) -> None:
    hits, of = case
    found = wilson(hits, of, confidence)
    expected = binomtest(hits, of).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= found.low <= found.share <= found.high <= 1.0
    assert found.share == hits / of


def found(task: Task, output: torch.Tensor, target: torch.Tensor, *chosen: Metric) -> dict[str, Any]:
    of = measured(task.loss_fn, task, chosen or None)
    everybody = np.zeros(len(target), dtype=np.int64)
    (states,) = of.states(on_host(of(output, target)), everybody, 1)
    return of.intervals(of.trial(output, target), states)


@pytest.mark.parametrize("task", [Binary(), Classification()])
def test_accuracy_sensitivity_and_specificity_of_two_classes_have_one(task: Task) -> None:
    target = torch.tensor([0] * 60 + [1] * 40)
    margin = torch.tensor([-1.0] * 50 + [1.0] * 10 + [1.0] * 33 + [-1.0] * 7)
    output = margin[:, None] if isinstance(task, Binary) else torch.stack([-margin, margin], dim=1)
    got = found(task.of(SPEC), output, target)
    assert got == {"accuracy": wilson(83, 100), "sensitivity": wilson(33, 40), "specificity": wilson(50, 60)}


def test_the_positive_class_each_class_and_averages() -> None:
    target, margin = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([-1.0, -1.0, 1.0, 1.0, -1.0])
    output, task = torch.stack([-margin, margin], dim=1), Classification().of(SPEC)
    chosen = (
        Sensitivity(positive="well"),
        Specificity(positive="well", label="spec"),
        Recall(average="none"),
        Recall(average="macro", label="macro"),
        Precision(),
        F1(),
    )
    got = found(task, output, target, *chosen)
    well, ill = wilson(2, 3), wilson(1, 2)
    assert got == {"sensitivity": well, "spec": ill, "recall_well": well, "recall_ill": ill}


def test_a_class_without_examples_has_none_and_neither_have_positions_and_labels() -> None:
    output = torch.stack([torch.ones(4), torch.zeros(4)], dim=1)
    got = found(Classification().of(SPEC), output, torch.zeros(4, dtype=torch.int64))
    assert got == {"accuracy": wilson(4, 4), "specificity": wilson(4, 4)}
    pixels = Segmentation().of(DataSpec((1, 2, 2), 2))
    assert found(pixels, torch.rand(3, 2, 2, 2), torch.ones(3, 2, 2, dtype=torch.int64), Sensitivity()) == {}
    labels = Multilabel().of(DataSpec((4,), 2, "regression"))
    with_labels = measured(labels.loss_fn, labels, (Accuracy(), Recall(average="none")))
    assert [metric.shares([3, 4]) for metric in with_labels.metrics] == [{}, {}, {}]


def test_numbers_that_are_no_share_of_the_examples_have_none() -> None:
    known = of_classes(usual(), ["well", "ill"])
    assert intervals(known, {"sensitivity": 0.123, "accuracy": None, "auroc": 0.5}, [60, 40], 100) == {}
    assert intervals(known, {"sensitivity": 0.825}, [60, 40], 4) == {}
    assert set(intervals(of_classes(usual(), ["a", "b", "c"]), {"accuracy": 0.5, "f1": 0.5}, [1, 2, 3], 6)) == {
        "accuracy"
    }
