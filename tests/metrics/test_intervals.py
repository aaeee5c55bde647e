"""Intervals of shares, against scipy, of areas, against DeLong, and of which numbers there are some."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fedray.core.messages import Floats
from fedray.data.spec import DataSpec
from fedray.metrics import AUROC, F1, Accuracy, Metric, Precision, Recall, Sensitivity, Specificity, measured
from fedray.metrics.intervals import area, intervals, of_classes, shown, to_json, usual, wilson
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
    above, ties = 50 * 33, 50 * 7 + 10 * 33
    assert got.pop("auroc") == area((above + ties / 2) / (40 * 60), 40, 60)
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
    assert intervals(known, {"sensitivity": 0.123, "accuracy": None, "f1": 0.5}, [60, 40], 100) == {}
    assert intervals(known, {"sensitivity": 0.825}, [60, 40], 4) == {}
    assert set(intervals(of_classes(usual(), ["a", "b", "c"]), {"accuracy": 0.5, "f1": 0.5}, [1, 2, 3], 6)) == {
        "accuracy"
    }


def delong(positive: Floats, negative: Floats) -> tuple[float, float]:
    """Return the area and its standard error, by DeLong, DeLong and Clarke-Pearson (Biometrics 44:837, 1988)."""
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    of_positive, of_negative = pairs.mean(axis=1), pairs.mean(axis=0)
    variance = of_positive.var(ddof=1) / len(positive) + of_negative.var(ddof=1) / len(negative)
    return float(pairs.mean()), float(np.sqrt(variance))


@pytest.mark.parametrize(("apart", "positives", "negatives"), [(0.5, 2000, 1500), (1.2, 800, 2500), (-1.0, 1500, 900)])
def test_of_many_examples_the_interval_of_an_area_is_delongs(apart: float, positives: int, negatives: int) -> None:
    rng = np.random.default_rng(positives)
    value, error = delong(rng.normal(apart, 1, positives), rng.normal(0, 1, negatives))
    found = area(value, positives, negatives)
    assert found.of == positives + negatives
    assert (found.low, found.high) == pytest.approx(
        (value - 1.96 * error, value + 1.96 * error), abs=0.1 * error + 2e-3
    )


@pytest.mark.parametrize(("positives", "negatives"), [(35, 2), (2, 35), (10, 10), (40, 20)])
@pytest.mark.parametrize("true", [0.6, 0.8, 0.95])
def test_nineteen_intervals_of_twenty_hold_the_true_area(positives: int, negatives: int, true: float) -> None:
    rng = np.random.default_rng(0)
    apart = NormalDist().inv_cdf(true) * 2**0.5
    areas = [float((rng.normal(apart, 1, positives)[:, None] > rng.normal(0, 1, negatives)).mean()) for _ in range(300)]
    held = [low <= true <= high for _, low, high, *_ in (area(value, positives, negatives) for value in areas)]
    assert np.mean(held) > 0.92


@given(st.floats(0, 1), st.integers(1, 300), st.integers(1, 300))
def test_an_area_lies_in_its_interval_and_turns_with_its_classes(value: float, positives: int, negatives: int) -> None:
    found, turned = area(value, positives, negatives), area(1 - value, negatives, positives)
    assert 0 <= found.low <= value <= found.high <= 1
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)
    assert (found.low == 0) == (value == 0) or value < 1e-9
    assert (found.high < 1) or value > 1 - 1e-9


def test_an_area_of_few_examples_says_of_how_few() -> None:
    ranked = AUROC(label="rank").of(Classification().of(SPEC))
    numbers = {"rank": 0.329}
    assert intervals([ranked], numbers, [2, 35], 37) == {"rank": area(0.329, 35, 2)._replace(few="2 of class well")}
    (one,) = intervals([ranked], numbers, [2, 3], 5).values()
    assert one.few == "2 of class well, 3 of class ill"
    assert shown(one).endswith("; 2 of class well, 3 of class ill)")
    assert to_json({"rank": one})["rank"]["few"] == one.few
    (many,) = intervals([ranked], numbers, [10, 10], 20).values()
    assert (many.few, "few" in to_json({"rank": many})["rank"]) == ("", False)
    assert intervals([ranked], numbers, [0, 35], 35) == {}
    assert intervals([ranked], {"rank": float("nan")}, [2, 35], 37) == {}


def test_areas_of_each_of_more_classes_have_one_and_their_mean_has_none() -> None:
    names = ["a", "b", "c"]
    each, mean = of_classes([AUROC("none"), AUROC()], names)
    numbers = {"auroc_a": 0.9, "auroc_b": 0.5, "auroc": 0.7}
    found = intervals([each], numbers, [4, 20, 80], 104)
    assert found == {"auroc_a": area(0.9, 4, 100)._replace(few="4 of class a"), "auroc_b": area(0.5, 20, 84)}
    assert intervals([mean], numbers, [4, 20, 80], 104) == {}
    (first,) = intervals([each], {"auroc_c": 0.5}, [2, 3, 80], 85).values()
    assert first.few == "5 of the others"
    labels = Multilabel().of(DataSpec((4,), 2, "regression"))
    assert AUROC().of(labels).areas(2) == {}
