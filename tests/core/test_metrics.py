"""Metrics: monoids with their laws, values of single examples, and scikit-learn's AUC."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from fedray.core.losses import LossFn, cross_entropy, mse, per_example
from fedray.core.metrics import Mean, auc, merge

# Whole numbers, which floats add exactly: the laws are about the monoid, not about rounding.
MEANS = st.builds(Mean, st.integers(-1000, 1000).map(float), st.integers(0, 50).map(float))


@given(MEANS, MEANS, MEANS)
def test_means_are_a_commutative_monoid(a: Mean, b: Mean, c: Mean) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Mean() == a == Mean() + a


@given(st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=5))
def test_a_merge_of_parts_is_the_mean_of_everything(parts: list[list[int]]) -> None:
    total = merge([{"x": Mean(float(sum(part)), float(len(part)))} for part in parts])
    values = [value for part in parts for value in part]
    if values:
        assert total["x"].result == pytest.approx(np.mean(values))
    else:
        assert math.isnan(total.get("x", Mean()).result)


def test_metrics_that_only_some_parts_have_are_merged_over_those() -> None:
    total = merge([{"a": Mean(1.0, 1.0)}, {"a": Mean(3.0, 1.0), "b": Mean(5.0, 2.0)}])
    assert {name: mean.result for name, mean in total.items()} == {"a": 2.0, "b": 2.5}


def branching(output: Tensor, target: Tensor) -> Tensor:
    """A loss that looks at values, which vmap cannot."""
    loss = functional.cross_entropy(output, target)
    return loss if float(loss.detach()) > 1.0 else 2.0 * loss


CLASSES = (torch.randn(7, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1, 2]))
TOKENS = (torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(2)), torch.arange(35).view(7, 5) % 4)
NUMBERS = (torch.randn(7, 2, generator=torch.Generator().manual_seed(3)), torch.ones(7, 2))


@pytest.mark.parametrize(
    ("loss", "batch"),
    [
        (cross_entropy, CLASSES),
        (cross_entropy, TOKENS),
        (mse, NUMBERS),
        (nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES),
        (nn.CrossEntropyLoss(), TOKENS),
        (nn.HuberLoss(), NUMBERS),
        (lambda o, t: (o - t).abs().mean(), NUMBERS),
        (branching, CLASSES),
    ],
)
def test_the_loss_of_each_example_is_the_loss_of_a_batch_of_one(loss: LossFn, batch: tuple[Tensor, Tensor]) -> None:
    output, target = batch
    expected = [float(loss(output[i : i + 1], target[i : i + 1])) for i in range(len(output))]
    got = per_example(loss, output, target)
    assert got.shape == (7,)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
    if loss is not branching:
        assert float(got.mean()) == pytest.approx(float(loss(output, target)), rel=1e-6)


def test_what_a_loss_joins_over_a_batch_does_not_show_in_the_loss_of_each_example() -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 1.0, 0.1]))
    torch.testing.assert_close(per_example(weighted, *CLASSES), per_example(cross_entropy, *CLASSES))
    assert not torch.isclose(weighted(*CLASSES), cross_entropy(*CLASSES))


@pytest.mark.parametrize(("name", "oracle"), [("cross_entropy", nn.CrossEntropyLoss()), ("mse", nn.MSELoss())])
def test_losses_by_name_are_torchs(name: str, oracle: Callable[[Tensor, Tensor], Tensor]) -> None:
    batch = CLASSES if name == "cross_entropy" else NUMBERS
    assert torch.equal({"cross_entropy": cross_entropy, "mse": mse}[name](*batch), oracle(*batch))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_auc_is_scikit_learns_also_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in pairs])
    labels = np.array([int(label) for _, label in pairs])
    if labels.min() == labels.max():
        assert math.isnan(auc(scores, labels))
    else:
        assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
