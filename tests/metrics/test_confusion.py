"""Metrics of the confusion matrix, against scikit-learn."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from torch import Tensor
from torch.nn import functional

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.metrics import F1, ConfusionMatrix, Dice, Jaccard, Kappa, MeanIoU, Precision, Recall, Specificity
from fedray.metrics.confusion import Averaged, part
from fedray.tasks import Classification

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
TASK = Classification().of(DataSpec((), 4, classes=("a", "b", "c", "d")))
TWO = Classification().of(DataSpec((), 2, classes=("well", "ill")))

ORACLES = {Precision: oracle.precision_score, Recall: oracle.recall_score, F1: oracle.f1_score}
ORACLES |= {Jaccard: oracle.jaccard_score}


def output_of(said: list[int], classes: int = 4) -> Tensor:
    return functional.one_hot(torch.tensor(said), classes).float()


@given(PAIRS)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("metric", ORACLES, ids=lambda metric: metric.name)
@pytest.mark.one_in(4)
def test_averages_are_scikit_learns(metric: type[Averaged], average: Any, pairs: list[tuple[int, int]]) -> None:
    actual, said = map(list, zip(*pairs, strict=True))
    found = metric(average=average).on(output_of(said), torch.tensor(actual), TASK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without a value, which are 0 in an average
        expected = ORACLES[metric](actual, said, average=average, zero_division=0.0)
    assert found == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=20))
@pytest.mark.parametrize("metric", ORACLES, ids=lambda metric: metric.name)
@pytest.mark.one_in(2)
def test_of_two_classes_the_second_is_the_positive_one(metric: type[Averaged], pairs: list[tuple[int, int]]) -> None:
    actual, said = map(list, zip(*pairs, strict=True))
    for positive, name in ((1, None), (1, "ill"), (0, "well")):
        found = metric(positive=name).on(output_of(said, 2), torch.tensor(actual), TWO)
        if math.isnan(found):
            undefined = positive not in actual if metric is Recall else positive not in {*actual, *said}
            assert undefined
        else:
            expected = ORACLES[metric](actual, said, pos_label=positive, zero_division=0.0)
            assert found == pytest.approx(expected, abs=1e-12)


@given(PAIRS)
def test_the_matrix_and_kappa_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    actual, said = map(list, zip(*pairs, strict=True))
    metric = ConfusionMatrix().of(TASK)
    table = metric.table(metric.state(output_of(said), torch.tensor(actual)))
    expected = oracle.confusion_matrix(actual, said, labels=range(4))
    assert table == {"classes": ["a", "b", "c", "d"], "counts": expected.tolist()}
    kappa = Kappa().on(output_of(said), torch.tensor(actual), TASK)
    if len({*actual, *said}) == 1:
        assert math.isnan(kappa)
    else:
        assert kappa == pytest.approx(oracle.cohen_kappa_score(actual, said), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=20))
def test_specificity_is_the_recall_of_the_others(pairs: list[tuple[int, int]]) -> None:
    actual, said = map(list, zip(*pairs, strict=True))
    found = Specificity().on(output_of(said, 2), torch.tensor(actual), TWO)
    if 0 in actual:
        assert found == pytest.approx(oracle.recall_score(actual, said, pos_label=0, zero_division=0.0))
    else:
        assert math.isnan(found)


def test_single_classes_stand_under_their_names_and_one_that_is_not_there_has_no_value() -> None:
    metric = Recall(average="none").of(TASK)
    found = metric.numbers(metric.state(output_of([0, 1, 1]), torch.tensor([0, 1, 2])))
    assert list(found) == ["recall_a", "recall_b", "recall_c", "recall_d"]
    assert list(found.values())[:3] == [1.0, 1.0, 0.0]
    assert math.isnan(found["recall_d"])
    assert part("St. Gallen (CH)") == "St_Gallen_CH"


def test_a_model_may_say_classes_that_the_data_do_not_have() -> None:
    metric = ConfusionMatrix().of(TWO)
    table = metric.table(metric.state(output_of([3, 1], 5), torch.tensor([0, 1])))
    assert table is not None
    assert table["classes"] == ["well", "ill", "2", "3"]
    assert np.array(table["counts"]).sum() == 2


def test_regions_are_compared_pixel_by_pixel() -> None:
    draw = torch.Generator().manual_seed(1)
    output, target = torch.randn(6, 4, 5, 7, generator=draw), torch.randint(0, 4, (6, 5, 7), generator=draw)
    said, actual = output.argmax(dim=1).flatten(), target.flatten()
    assert MeanIoU().on(output, target, TASK) == pytest.approx(oracle.jaccard_score(actual, said, average="macro"))
    assert Dice().on(output, target, TASK) == pytest.approx(oracle.f1_score(actual, said, average="macro"))
    inner = oracle.f1_score(actual, said, average="macro", labels=[1, 2, 3])
    assert Dice(background=False).on(output, target, TASK) == pytest.approx(inner)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (F1(average="binary"), "f1: average=binary is of two classes, and there are 4"),
        (F1(positive="a"), "f1: positive=a is for average=binary of two classes"),
    ],
)
def test_what_does_not_go_with_the_classes_is_refused(metric: F1, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        metric.of(TASK)


def test_an_unknown_positive_class_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no class is 'il' \(did you mean 'ill'\?\); there are well, ill"):
        F1(positive="il").of(TWO)
