"""Metrics as they are given: objects, functions, parts of a config."""

from __future__ import annotations

from typing import Any

from fedray.core.errors import ConfigError
from fedray.metrics.base import FunctionMetric, Metric, UserMetric
from fedray.metrics.torch_metric import of_torchmetrics


def as_metric(part: Any, key: str) -> Metric:
    """Return the metric that a part is, or that a function makes, or an object of torchmetrics.

    Raises:
        ConfigError: it is neither, or one of torchmetrics that cannot be added up.
    """
    inner = part.function if isinstance(part, UserMetric) else part
    if isinstance(inner, Metric):
        return inner
    if (found := of_torchmetrics(inner, getattr(part, "label", None), key)) is not None:
        return found
    if isinstance(inner, type) or not callable(inner):
        raise ConfigError(
            f"{key}: a metric is needed, or a function from outputs and targets to a value of each example; "
            f"this is {inner!r}"
        )
    if isinstance(part, UserMetric):
        return FunctionMetric(part, part.name.rpartition(":")[2])
    return FunctionMetric(part, getattr(part, "__name__", type(part).__name__).strip("<>"))
