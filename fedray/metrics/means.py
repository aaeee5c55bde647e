"""Metrics that are a mean over examples, or over their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.metrics.base import MeanMetric, Metric, metrics
from fedray.metrics.sums import State
from fedray.tasks import Task


@metrics.register("accuracy")
@dataclass(frozen=True)
class Accuracy(MeanMetric):
    """The share of right answers; of an example with several positions its mean over them.

    Where each class is a question of its own, the share of right answers to all questions.

    >>> Accuracy().on(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    0.5

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"
    label: str | None = None

    def of(self, task: Task) -> Metric:
        """Return the metric of a task; where some positions may not count, that over all that do."""
        found = super().of(task)
        return PositionAccuracy(self.title).of(task) if task.partial else found

    def shares(self, support: Sequence[int]) -> dict[str, int]:
        """Return the number of all examples; nothing where each class is a question of its own."""
        return {} if self.task.several else {self.title: sum(support)}

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the share of right positions of each example, ``[B]``."""
        return self.task.answers(output, target).right.to(torch.float32).mean(dim=1)


@dataclass(frozen=True)
class PositionAccuracy(Metric):
    """The share of right answers of the positions that count.

    Args:
        label: the name of the number in records.
    """

    label: str | None = "accuracy"

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return of each example the right positions, and those that count."""
        found = self.task.answers(output, target)
        known = torch.ones_like(found.right) if found.known is None else found.known
        return {"right": found.right.double().sum(dim=1), "known": known.double().sum(dim=1)}

    def compute(self, state: State) -> float:
        """Return the share."""
        return float(state["right"] / state["known"])


@metrics.register("exact_match")
@dataclass(frozen=True)
class ExactMatch(Metric):
    """The share of examples all of whose positions that count are right; those without one do not count.

    >>> from fedray.tasks import Span
    >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 2.0], [0.0, 0.0]]])
    >>> ExactMatch().on(logits, torch.tensor([[0, 1], [0, 1]]), Span())
    0.5

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"
    label: str | None = None

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return of each example if all is right, and if it counts."""
        found = self.task.answers(output, target)
        known = torch.ones_like(found.actual, dtype=torch.bool) if found.known is None else found.known
        counts = known.any(dim=1)
        return {"right": ((found.right | ~known).all(dim=1) & counts).double(), "known": counts.double()}

    def compute(self, state: State) -> float:
        """Return the share."""
        return float(state["right"] / state["known"])


class OfNumbers(Metric):
    """The base of metrics of numbers, an output for each target."""

    needs: ClassVar[Literal["classes", "numbers", ""]] = "numbers"

    def fits(self, output: Tensor, target: Tensor) -> bool:
        """Tell if there is an output for each target."""
        return output.shape == target.shape

    def error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the difference of outputs and targets, ``[B, n]``; ConfigError with both shapes if they differ."""
        if not self.fits(output, target):
            shapes = f"the model gives {tuple(output.shape)} for targets {tuple(target.shape)}"
            raise ConfigError(f"{self.title} needs an output for each target, and {shapes}")
        return (output - target).flatten(1)


@metrics.register("mse")
@dataclass(frozen=True)
class MSE(OfNumbers, MeanMetric):
    """The mean squared error.

    >>> MSE().on(torch.tensor([[1.0], [5.0]]), torch.tensor([[0.0], [2.0]]))
    5.0

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    label: str | None = None

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error of each example, ``[B]``."""
        return self.error(output, target).square().mean(dim=1)


@metrics.register("mae")
@dataclass(frozen=True)
class MAE(OfNumbers, MeanMetric):
    """The mean absolute error.

    >>> MAE().on(torch.tensor([[1.0], [5.0]]), torch.tensor([[0.0], [2.0]]))
    2.0

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    label: str | None = None

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean absolute error of each example, ``[B]``."""
        return self.error(output, target).abs().mean(dim=1)


@metrics.register("rmse")
@dataclass(frozen=True)
class RMSE(MSE):
    """The root of the mean squared error.

    >>> RMSE().on(torch.tensor([[1.0], [5.0]]), torch.tensor([[2.0], [2.0]]))
    2.23606797749979
    """

    additive: ClassVar[bool] = False

    def compute(self, state: State) -> float:
        """Return the root."""
        return float((state["total"] / state["count"]).sqrt())


@metrics.register("r2")
@dataclass(frozen=True)
class R2(OfNumbers):
    """The share of the targets' variance that is explained, ``1 - sum (y - f)^2 / sum (y - mean y)^2``.

    Of several targets it is the mean over them, each with its own variance, as scikit-learn's ``uniform_average``; a
    target that does not vary among the examples has no value, and one in a mean of several is left out of it.

    >>> R2().on(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
    0.5

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    label: str | None = None

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return of each target its error, itself and its square, in float64: they cancel."""
        error, y = self.error(output, target).double(), target.flatten(1).double()
        return {"error": error.square(), "sum": y, "square": y.square(), "count": torch.ones_like(y[:, 0])}

    def compute(self, state: State) -> float:
        """Return the mean over targets."""
        varied = state["square"] - state["sum"].square() / state["count"]
        # What is left of a constant by rounding is no variance.
        there = varied > 1e-12 * state["square"]
        return float((1 - state["error"] / varied)[there].mean())


@metrics.register("perplexity")
@dataclass(frozen=True)
class Perplexity(Metric):
    """``exp`` of the mean cross-entropy over positions, whatever the loss that is trained.

    >>> round(Perplexity().on(torch.zeros(2, 4), torch.tensor([0, 1])), 6)
    4.0

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"
    label: str | None = None

    def of(self, task: Task) -> Metric:
        """Return the metric of a task; ConfigError where each class is a question of its own."""
        if task.several:
            raise ConfigError(f"{self.title} is of one class for each position, and the task is {task.name}")
        return super().of(task)

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of each example, summed over its positions, and their number."""
        total, count = self.task.entropy(output, target)
        return {"total": total, "count": count}

    def compute(self, state: State) -> float:
        """Return the perplexity."""
        return float((state["total"] / state["count"]).exp())
