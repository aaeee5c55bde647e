"""What may be given as a metric."""

from __future__ import annotations

import pytest
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.metrics import F1, FunctionMetric, TorchMetric
from fedray.metrics.given import as_metric


def absolute(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean(dim=1)


def test_a_function_is_a_metric_by_its_name() -> None:
    assert as_metric(absolute, "metrics[0]") == FunctionMetric(absolute, "absolute")
    assert as_metric(lambda output, target: output, "metrics[0]").title == "lambda"


def test_metrics_are_taken_as_they_are_and_those_of_torchmetrics_as_sums() -> None:
    import torchmetrics  # takes seconds

    metric, error = F1(), torchmetrics.MeanSquaredError()
    assert as_metric(metric, "metrics[0]") is metric
    assert as_metric(error, "metrics[0]") == TorchMetric(error)
    assert as_metric(error, "metrics[0]").title == "mean_squared_error"


@pytest.mark.parametrize("value", [3, F1])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"metrics\[0\]: a metric is needed, or a function"):
        as_metric(value, "metrics[0]")


def test_what_is_of_torchmetrics_but_no_metric_with_states_is_refused() -> None:
    import torchmetrics

    with pytest.raises(ConfigError, match=r"metrics\[0\]: a metric is needed, or a function"):
        as_metric(torchmetrics.R2Score, "metrics[0]")
    both = torchmetrics.MetricCollection([torchmetrics.R2Score()])
    with pytest.raises(ConfigError, match="MetricCollection of torchmetrics: it has no states of its own"):
        as_metric(both, "metrics[0]")
