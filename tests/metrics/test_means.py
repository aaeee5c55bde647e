"""Metrics that are means, against scikit-learn and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.losses import cross_entropy
from fedray.metrics import MAE, MSE, R2, RMSE, Accuracy, Metric, Perplexity, measured
from fedray.tasks import Classification, Regression

DRAW = torch.Generator().manual_seed(2)
CLASSES = torch.randn(7, 4, generator=DRAW), torch.tensor([0, 1, 2, 3, 0, 1, 2])
TOKENS = torch.randn(7, 4, 5, generator=DRAW), torch.arange(35).view(7, 5) % 4
NUMBERS = torch.randn(9, 2, generator=DRAW), torch.randn(9, 2, generator=DRAW)


@pytest.mark.parametrize("batch", [CLASSES, TOKENS], ids=["classes", "tokens"])
def test_accuracy_is_the_share_of_right_answers(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = batch
    expected = oracle.accuracy_score(target.flatten().numpy(), output.argmax(dim=1).flatten().numpy())
    assert Accuracy().on(output, target) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (MSE(), oracle.mean_squared_error),
        (MAE(), oracle.mean_absolute_error),
        (R2(), oracle.r2_score),
        (RMSE(), lambda y, f: math.sqrt(oracle.mean_squared_error(y, f))),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_metrics_of_numbers_are_scikit_learns(metric: Metric, expected: object) -> None:
    output, target = NUMBERS
    assert metric.on(output, target) == pytest.approx(expected(target.numpy(), output.numpy()), rel=1e-6)  # type: ignore[operator]


def test_r2_of_large_numbers_loses_nothing_and_of_constant_ones_has_no_value() -> None:
    output, target = NUMBERS[0][:, :1], NUMBERS[1][:, :1]
    far = R2().on(output + 1000, target + 1000)
    assert far == pytest.approx(oracle.r2_score(target.numpy(), output.numpy()), abs=1e-4)
    assert math.isnan(R2().on(output, torch.full_like(target, 0.1)))


@pytest.mark.parametrize("batch", [CLASSES, TOKENS], ids=["classes", "tokens"])
def test_perplexity_is_exp_of_the_mean_over_positions(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert Perplexity().on(*batch) == pytest.approx(math.exp(cross_entropy(*batch)), rel=1e-6)


@pytest.mark.parametrize("metric", [MSE(), MAE(), R2(), RMSE()], ids=lambda metric: metric.title)
def test_two_shapes_that_differ_are_both_named(metric: Metric) -> None:
    with pytest.raises(ConfigError, match=r"gives \(3, 2\) for targets \(3, 1\)"):
        metric.on(torch.zeros(3, 2), torch.zeros(3, 1), Regression())


def test_what_nobody_has_chosen_is_left_out_where_it_does_not_fit() -> None:
    """A loss of one's own may need more outputs than there are targets."""
    usual = measured(lambda o, t: o.mean(), Regression())
    assert set(usual(torch.zeros(3, 2), torch.zeros(3, 1))) == {"loss"}
    assert set(usual(*NUMBERS)) == {"loss", "mse"}
    found = measured(nn.L1Loss(), Regression())(*NUMBERS)
    np.testing.assert_allclose(found["mse"], (NUMBERS[0] - NUMBERS[1]).square().mean(dim=1), rtol=1e-6)
    assert set(measured(cross_entropy, Classification())(*CLASSES)) == {"loss", "accuracy"}
