"""AUROC and average precision of counted margins, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.metrics import AUROC, AveragePrecision, measured
from fedray.metrics.ranking import keys_of
from fedray.tasks import Classification, Multilabel
from fedray.tasks.classification import margins


def scores(kind: str, rows: int = 20_000) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    y = (torch.rand(rows, generator=draw) < {"rare": 0.01}.get(kind, 0.4)).long()
    margin = torch.randn(rows, generator=draw) + 1.5 * y - 0.7
    margin = margin * {"confident": 8.0}.get(kind, 1.0) - {"rare": 6.0}.get(kind, 0.0)
    return torch.stack([torch.zeros(rows), margin], dim=1), y


@pytest.mark.parametrize("kind", ["spread", "confident", "rare"])
def test_of_many_rows_they_are_scikit_learns(kind: str) -> None:
    output, y = scores(kind)
    margin = (output[:, 1] - output[:, 0]).numpy()
    assert AUROC().on(output, y) == pytest.approx(roc_auc_score(y, margin), abs=1e-4)
    assert AveragePrecision().on(output, y) == pytest.approx(average_precision_score(y, margin), abs=2e-3)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=20))
def test_ties_count_one_half(pairs: list[tuple[int, bool]]) -> None:
    margin = torch.tensor([float(score) for score, _ in pairs])
    y = torch.tensor([int(label) for _, label in pairs])
    output = torch.stack([torch.zeros(len(y)), margin], dim=1)
    found, precision = AUROC().on(output, y), AveragePrecision().on(output, y)
    if y.min() == y.max():
        assert math.isnan(found)
        assert math.isnan(precision)
    else:
        assert found == pytest.approx(roc_auc_score(y, margin), abs=1e-12)
        assert precision == pytest.approx(average_precision_score(y, margin), abs=1e-12)


def test_of_several_classes_it_is_the_mean_of_each_against_the_others() -> None:
    draw = torch.Generator().manual_seed(4)
    y = torch.randint(0, 3, (20_000,), generator=draw)
    output = torch.randn(20_000, 3, generator=draw)
    output[torch.arange(20_000), y] += 1.0
    probability = output.double().softmax(dim=1).numpy()
    expected = roc_auc_score(y, probability, multi_class="ovr")
    assert AUROC().on(output, y) == pytest.approx(expected, abs=1e-4)
    task = Classification().of(DataSpec((), 3, classes=("a", "b", "c")))
    each = AUROC(average="none").on(output, y, task)
    for k, name in enumerate("abc"):
        assert each[name] == pytest.approx(roc_auc_score(y == k, probability[:, k]), abs=1e-4)
        one = AveragePrecision(average="none").on(output, y, task)[name]
        assert one == pytest.approx(average_precision_score(y == k, probability[:, k]), abs=2e-3)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=20))
def test_keys_are_in_the_order_of_the_scores(values: list[float]) -> None:
    numbers = torch.tensor(values)
    keys, rounded = keys_of(numbers), numbers.to(torch.bfloat16).float()
    order = torch.argsort(keys, stable=True)
    assert bool((rounded[order].diff() >= 0).all())
    assert len(np.unique(keys)) == len(np.unique(rounded + 0.0))


def test_a_score_that_is_no_number_leaves_no_value() -> None:
    output, y = scores("spread", 50)
    output[3, 1] = math.nan
    assert math.isnan(AUROC().on(output, y))
    output[3, 1] = math.inf
    assert not math.isnan(AUROC().on(output, y))


def test_margins_of_many_classes_are_those_of_one_against_all_others_summed() -> None:
    logits = torch.randn(7, 40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 30
    each = []
    for k in range(40):
        others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)
        each.append(logits[:, k] - others.logsumexp(dim=1))
    assert torch.allclose(margins(logits), torch.stack(each, dim=1), rtol=1e-12, atol=1e-12)


def test_ranks_of_a_vocabulary_are_refused_and_no_default() -> None:
    words = r"auroc counts each position once for each of 5,000 classes.* at most 1,000, take accuracy or perplexity"
    with pytest.raises(ConfigError, match=words):
        AUROC().of(Classification().of(DataSpec((4,), 5_000)))
    labels = Multilabel().of(DataSpec((4,), 5_000, "regression"))
    assert [metric.title for metric in measured(labels.loss_fn, labels).metrics] == ["accuracy", "f1"]
