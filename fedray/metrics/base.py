"""The metric: a number that is made of sums over examples, so that it is the same however these are shared out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.config.imported import ImportedFunction
from fedray.config.registry import Registry
from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.metrics.sums import State, on_host, states_of
from fedray.tasks import Task, inferred

Function = Callable[[Tensor, Tensor], Tensor]
"""(outputs ``[B, ...]``, targets ``[B, ...]``) to a value of each example, ``[B]``."""


class Metric:
    """The base of metrics: ``update`` says what each example adds, ``compute`` makes the number of the sums.

    Sums are added up for each client and for all of them, so that a metric needs one pass over the examples, and is the
    same for any number of workers.  One of your own is a class of this kind, best a frozen dataclass, whose fields are
    its options; or a function from outputs and targets to a value of each example, whose mean is the metric.

    >>> @dataclass(frozen=True)
    ... class RelativeError(Metric):
    ...     label: str = "relative_error"
    ...     def update(self, output, target):
    ...         return {"error": (output - target).abs().sum(dim=1), "size": target.abs().sum(dim=1)}
    ...     def compute(self, state):
    ...         return float(state["error"] / state["size"])
    >>> RelativeError().on(torch.tensor([[1.0], [5.0]]), torch.tensor([[2.0], [4.0]]))
    0.3333333333333333
    """

    name: ClassVar[str] = ""

    needs: ClassVar[Literal["classes", "numbers", ""]] = ""
    """The kind of task that it is a metric of; empty: of any."""

    counted: ClassVar[frozenset[str]] = frozenset()
    """The names in what ``update`` returns of keys that are to be counted, int64 ``[B, ...]``, negative for none."""

    additive: ClassVar[bool] = False
    """True for a mean of one value of each example."""

    by_client: ClassVar[bool] = False
    """True if the sums of single clients stand in their table, as :meth:`cells`."""

    rests_on_classes: ClassVar[bool] = False
    """True if a few rows of a class make its number a matter of chance: the table of clients then has their counts."""

    label: str | None

    task: ClassVar[Task] = Task()
    """The task that the outputs are of."""

    def of(self, task: Task) -> Metric:
        """Return the metric of a task.

        Raises:
            ConfigError: it is none of such a task.
        """
        if self.needs and self.needs != task.kind:
            what = "classes" if self.needs == "classes" else "numbers"
            raise ConfigError(f"{self.title} is a metric of {what}, and the task is {task.name}; take another")
        found = copy.copy(self)
        object.__setattr__(found, "task", task)
        return found

    def fits(self, output: Tensor, target: Tensor) -> bool:
        """Tell if outputs and targets have shapes that it is for."""
        return True

    @property
    def title(self) -> str:
        """The name of its number in records."""
        return getattr(self, "label", None) or self.name or type(self).__name__.lower()

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return what each example adds to the sums, by name.

        Args:
            output: of the model, float32 ``[B, ...]``, on its device.
            target: ``[B, ...]``.

        Returns:
            Numbers ``[B, ...]``, which are added up in float64 over the examples; those of a name in ``counted`` are
            keys, whose numbers are counted.
        """
        raise NotImplementedError

    def reduce(self, rows: Mapping[str, Tensor]) -> State:
        """Return the sums of some examples, where these are no sums of what ``update`` has returned of each."""
        raise NotImplementedError

    def compute(self, state: State) -> float | dict[str, float]:
        """Return the number of some sums; or several, by a word each that is appended to the name."""
        raise NotImplementedError

    def table(self, state: State) -> dict[str, Any] | None:
        """Return what else there is to tell of some sums, ready for JSON; None: nothing."""
        return None

    def of_client(self, state: State) -> State:
        """Return the part of a client's sums that ``cells`` needs."""
        return state

    def cells(self, state: State) -> list[dict[str, Any]]:
        """Return what the table of clients holds of some sums, of a metric that is ``by_client``."""
        raise NotImplementedError

    def shares(self, support: Sequence[int]) -> dict[str, int]:
        """Return how many examples each of its numbers is a share of, by its name; of what is no share, nothing.

        Args:
            support: the examples of each class.
        """
        return {}

    def areas(self, classes: int) -> dict[str, int]:
        """Return which class each of its numbers ranks against all others as an area under the ROC curve, by its name.

        Args:
            classes: the number of classes.
        """
        return {}

    def numbers(self, state: State) -> dict[str, float]:
        """Return the numbers of some sums, by the names that they have in records."""
        found = self.compute(state)
        if isinstance(found, dict):
            return {f"{self.title}_{word}": float(value) for word, value in found.items()}
        return {self.title: float(found)}

    def on(self, output: Tensor, target: Tensor, task: Task | None = None) -> Any:
        """Compute it for some examples at once.

        Args:
            output: ``[B, ...]``.
            target: ``[B, ...]``.
            task: their task; default: by their shapes.
        """
        metric = self.of(inferred(output, target) if task is None else task)
        return metric.compute(metric.state(output, target))

    def state(self, output: Tensor, target: Tensor) -> State:
        """Return the sums of some examples, of a metric that knows its task."""
        return self.states(on_host(self.update(output, target)), np.zeros(len(output), dtype=np.int64), 1)[0]

    def states(self, rows: Mapping[str, NDArray[Any]], group: Ints, count: int) -> list[State]:
        """Return the sums of each group of examples.

        Args:
            rows: the result of ``update``, on the host.
            group: the group of each example, ``[B]``, from 0 to below ``count``.
            count: the number of groups.
        """
        if type(self).reduce is Metric.reduce:
            return states_of(rows, self.counted, group, count)
        own = [{name: torch.from_numpy(one[group == place]) for name, one in rows.items()} for place in range(count)]
        return [self.reduce(one) for one in own]


class MeanMetric(Metric):
    """The base of metrics that are the mean of a value of each example.

    >>> class Bias(MeanMetric):
    ...     def values(self, output, target):
    ...         return (output - target).mean(dim=1)
    >>> Bias().on(torch.tensor([[1.0], [5.0]]), torch.tensor([[0.0], [0.0]]))
    3.0
    """

    additive: ClassVar[bool] = True

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the value of each example, ``[B]``."""
        raise NotImplementedError

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the values, and a one for each."""
        values = self.values(output, target)
        return {"total": values, "count": torch.ones_like(values)}

    def compute(self, state: State) -> float:
        """Return the mean."""
        return float(state["total"] / state["count"])


@dataclass(frozen=True)
class FunctionMetric(MeanMetric):
    """The mean of what a function says of each example.

    >>> FunctionMetric(lambda output, target: (output - target).abs().amax(dim=1), "worst").title
    'worst'

    Args:
        function: (outputs, targets) to a value of each example, ``[B]``.
        label: the name of the number.
    """

    function: Function
    label: str | None = None

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the value of each example, ``[B]``."""
        values = self.function(output, target)
        if not isinstance(values, Tensor) or values.shape != output.shape[:1]:
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ConfigError(f"{self.title}: it must give one value for each example, {(len(output),)}, got {got}")
        return values.to(torch.float32)


@dataclass(frozen=True)
class UserMetric(ImportedFunction):
    """A function (output, target, **options) to a value of each example, or a class of metrics."""

    arguments: ClassVar[int] = 2


metrics = Registry(
    "metric", package="fedray.metrics", imported=UserMetric, such_as="a function or a fedray.metrics.Metric"
)
