"""Metrics of torchmetrics, where their states are sums: the extra ``fedray[metrics]``."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedray.core.errors import ConfigError, listed
from fedray.metrics.base import Metric, UserMetric
from fedray.metrics.confusion import part
from fedray.metrics.sums import State
from fedray.tasks.positions import Positions

LIBRARY = "torchmetrics"


@dataclass(frozen=True)
class TorchMetric(Metric):
    """A metric of torchmetrics, by states that are added up over examples, for each client and for all of them.

    It is updated with the examples of one client, or of one piece of a test set, at a time, on the CPU and in float64.
    Outputs are given as the model gives them (logits), with the classes in the second axis; where there are as many
    outputs as targets they get the targets' shape.  Targets of classes are integers.

    >>> import torchmetrics
    >>> error = TorchMetric(torchmetrics.MeanAbsolutePercentageError(), label="mape")
    >>> error.on(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [2.0]]))
    0.5

    Args:
        metric: an object of torchmetrics, all of whose states are sums; its own is left as it is.
        label: the name of the number in records; default: that of its class, in lower case with underscores.

    Raises:
        ConfigError: a state is no sum, as those of ranks and quantiles, which keep every example.
    """

    metric: Any
    label: str | None = None

    def __post_init__(self) -> None:
        name, states = type(self.metric).__name__, getattr(self.metric, "_reductions", {})
        kept = [
            state
            for state, how in states.items()
            if isinstance(self.metric._defaults[state], list) or getattr(how, "__name__", "") != "dim_zero_sum"
        ]
        if kept or not states:
            why = f"its states {listed(kept)} are no sums" if kept else "it has no states of its own"
            raise ConfigError(
                f"{name} of {LIBRARY}: {why}, so it cannot be added up over clients; take another, "
                "or give it thresholds (bins), where it takes them"
            )

    @property
    def title(self) -> str:
        """The name of its number in records."""
        return self.label or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self.metric).__name__).lower()

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return outputs and targets, as torchmetrics takes them."""
        if isinstance(self.task, Positions):
            output, target = self.task.logits(output), self.task.labels(target)
        if output.numel() == target.numel():
            output = output.reshape(target.shape)
        return {"output": output, "target": target.long() if self.task.kind == "classes" else target}

    def reduce(self, rows: Mapping[str, Tensor]) -> State:
        """Return the states after some examples."""
        metric = self._empty()
        if len(rows["output"]):
            metric.update(rows["output"], rows["target"])
        return {name: getattr(metric, name).to(torch.float64) for name in metric._defaults}

    def compute(self, state: State) -> float | dict[str, float]:
        """Return its number, or one for each class; none where it gives a table."""
        found = self._of(state)
        if isinstance(found, Mapping):
            return {str(name): float(value) for name, value in found.items()}
        if not isinstance(found, Tensor) or found.dim() > 1:
            return {}
        if found.numel() == 1:
            return float(found)
        names = self.task.classes if len(self.task.classes) == len(found) else map(str, range(len(found)))
        return {part(name): float(value) for name, value in zip(names, found, strict=True)}

    def table(self, state: State) -> Any:
        """Return what it gives, where that is more than a row of numbers."""
        found = self._of(state)
        return None if isinstance(found, Mapping) or (isinstance(found, Tensor) and found.dim() < 2) else _plain(found)

    def _empty(self) -> Any:
        metric = copy.deepcopy(self.metric)
        metric.reset()
        return metric.set_dtype(torch.float64)

    def _of(self, state: State) -> Any:
        metric = self._empty()
        for name, value in state.items():
            setattr(metric, name, value)
        # Without its wrapper, which warns that there was no update.
        return inspect.unwrap(metric.compute)()


def _plain(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.tolist()
    return [_plain(one) for one in found]


@dataclass(frozen=True)
class NamedTorchMetric(UserMetric):
    """A metric of torchmetrics that a config names.

    Args:
        label: the name of the number in records.
    """

    origin: ClassVar[str] = f"a metric of {LIBRARY}"

    label: str | None = None

    @property
    def section(self) -> dict[str, Any]:
        """The section of the config that names it."""
        return super().section | ({} if self.label is None else {"label": self.label})


def named_torchmetric(node: Any, key: str) -> NamedTorchMetric | None:
    """Return the metric of torchmetrics that a config names, as ``torchmetrics.Name``; None: it names another.

    Raises:
        ConfigError: the library is not installed, or has no such metric, or that takes other options.
    """
    section = {"name": node} if isinstance(node, str) else node
    name = str(section.get("name", "")) if isinstance(section, Mapping) else ""
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if module.partition(".")[0] != LIBRARY:
        return None
    if importlib.util.find_spec(LIBRARY) is None:
        raise ConfigError(f"{key}.name: {name} needs {LIBRARY}; install it: pip install 'fedray[metrics]'")
    options = {option: value for option, value in section.items() if option not in ("name", "label")}
    part = NamedTorchMetric(f"{module}:{attribute}", options, kind="metric", key=key, label=section.get("label"))
    part.check()
    return part


def of_torchmetrics(metric: Any, label: str | None, key: str) -> Metric | None:
    """Return an object of torchmetrics as a metric; None: it is none.

    Raises:
        ConfigError: its states are no sums.
    """
    if not any(kind.__module__.partition(".")[0] == LIBRARY for kind in type(metric).__mro__):
        return None
    try:
        return TorchMetric(metric, label)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
