"""What an evaluation measures, by the names that records have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.core.losses import cross_entropy
from fedray.metrics import F1, Accuracy, ConfusionMatrix, FunctionMetric, Recall, measured
from fedray.metrics.measures import together
from fedray.metrics.sums import on_host
from fedray.tasks import Classification, inferred

OUTPUT, TARGET = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])


def test_the_loss_and_each_metric_have_their_numbers() -> None:
    chosen = [F1(), Accuracy(), Recall(average="none"), ConfusionMatrix(), F1("macro", label="f1_macro")]
    measures = measured(cross_entropy, inferred(OUTPUT, TARGET), chosen)
    numbers = measures.trial(OUTPUT, TARGET)
    assert set(numbers) == {"loss", "accuracy", "f1", "f1_macro", "recall_0", "recall_1"}
    assert numbers["f1"] == F1().on(OUTPUT, TARGET)
    assert measures.means == {"loss", "accuracy"}


def test_groups_that_lack_a_number_have_nan_in_its_column() -> None:
    measures = measured(cross_entropy, inferred(OUTPUT, TARGET), [F1()])
    states = measures.states(on_host(measures(OUTPUT, TARGET)), np.array([0, 0, 2]), 3)
    columns = measures.columns(states)
    np.testing.assert_array_equal(columns["f1"], [0.0, np.nan, 1.0])
    assert measures.numbers(together(states)) == {"f1": F1().on(OUTPUT, TARGET)}
    assert measures.columns([{}, {}]) == {}


def test_two_of_a_name_need_a_label() -> None:
    with pytest.raises(ConfigError, match=r"metrics\[1\]: f1 is there already; give it another name by label"):
        measured(cross_entropy, Classification(), [F1(), F1("macro")])
    with pytest.raises(ConfigError, match=r"metrics\[0\]: loss is there already"):
        measured(cross_entropy, Classification(), [FunctionMetric(lambda o, t: o[:, 0], "loss")])


def test_a_metric_that_fails_is_named_with_the_shapes() -> None:
    broken = FunctionMetric(lambda o, t: o @ t, "mine")
    with pytest.raises(ConfigError, match=r"metrics: mine fails on outputs \(3, 2\) and targets \(3,\): RuntimeError"):
        measured(cross_entropy, inferred(OUTPUT, TARGET), [broken]).trial(OUTPUT, TARGET)
