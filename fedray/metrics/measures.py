"""The measures of an evaluation: the loss, and the metrics of a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError, one_line
from fedray.core.losses import LossFn, per_example, summed
from fedray.core.messages import Floats, Ints
from fedray.core.one_answer import OneAnswer
from fedray.metrics.base import Metric, metrics
from fedray.metrics.intervals import Interval, intervals
from fedray.metrics.sums import State, added, on_host
from fedray.metrics.support import MOST_CLASSES, Support
from fedray.tasks import Task

LOSS = "loss"

_ANY = Task()


class _LossOfPositions(Metric):
    """The mean of a loss over the positions that it counts."""

    label: str | None = LOSS

    def __init__(self, loss: LossFn) -> None:
        found = summed(loss)
        assert found is not None
        self._of = found

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the sum of each example's losses, and the number of its positions that count."""
        return {"total": self._of.sums(output, target), "count": self._of.counts(target)}

    def compute(self, state: State) -> float:
        """Return the mean."""
        return float(state["total"] / state["count"])


States = dict[str, State]
"""The sums of each metric, by its title."""


@dataclass(frozen=True, eq=False)
class Measures:
    """The loss and the metrics of an evaluation.

    Called with outputs (float32) and targets it returns rows: what each example adds, ``[B, ...]``, by name.  A metric
    that is the mean of a value of each example has one row, by its own name, as has the loss, unless that leaves out
    targets: then it is the mean over all positions that count.

    Args:
        loss: the loss, as it tells it of a batch of one.
        metrics: metrics that know their task, each with a title of its own.
        usual: nobody has chosen them: those that outputs are no good for, by their shape, are left out.
        task: the task, which knows the unit of the outputs.
    """

    loss: LossFn
    metrics: tuple[Metric, ...] = ()
    usual: bool = False
    task: Task = _ANY

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        rows = {LOSS: per_example(self.loss, output, target)} if self._own is None else {}
        if self._own is not None:
            rows |= {f"{LOSS}/{name}": value for name, value in self._own.update(output, target).items()}
        output = self.task.unscaled(output)
        for metric in self.metrics:
            if self.usual and not metric.fits(output, target):
                continue
            if metric.additive:
                rows[metric.title] = metric.values(output, target)  # type: ignore[attr-defined]
            else:
                found = metric.update(output, target)
                rows |= {f"{metric.title}/{name}": value for name, value in found.items()}
        return rows

    @cached_property
    def _own(self) -> _LossOfPositions | None:
        """The loss, where it is a mean over positions."""
        return None if summed(self.loss) is None else _LossOfPositions(self.loss)

    @cached_property
    def summed(self) -> tuple[Metric, ...]:
        """The metrics that are no mean of one value of each example; the loss, too, where it is none."""
        own = () if self._own is None else (self._own,)
        return (*own, *(metric for metric in self.metrics if not metric.additive))

    @cached_property
    def means(self) -> frozenset[str]:
        """The names of the rows whose mean is the number itself."""
        own = {LOSS} if self._own is None else set[str]()
        return frozenset(own.union(metric.title for metric in self.metrics if metric.additive))

    def states(self, rows: Mapping[str, NDArray[Any]], group: Ints, count: int) -> list[States]:
        """Add up rows for each group of examples: of the metrics that are no plain means.

        Args:
            rows: on the host, each ``[B, ...]``.
            group: the group of each example, ``[B]``.
            count: the number of groups.
        """
        found: list[States] = [{} for _ in range(count)]
        for metric in self.summed:
            start = f"{metric.title}/"
            if not any(name.startswith(start) for name in rows):
                continue
            own = {name.removeprefix(start): value for name, value in rows.items() if name.startswith(start)}
            for states, state in zip(found, metric.states(own, group, count), strict=True):
                states[metric.title] = state
        return found

    def trial(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Return the numbers of some examples, by name.

        Raises:
            ConfigError: a metric of the user's own fails, or gives no numbers.
        """
        for metric in self.metrics:
            try:
                if not self.usual or metric.fits(output, target):
                    metric.numbers(metric.state(self.task.unscaled(output), target))
            except ConfigError as error:
                raise ConfigError(f"metrics: {error}") from None
            except Exception as error:
                shapes = f"outputs {tuple(output.shape)} and targets {tuple(target.shape)}"
                raise ConfigError(f"metrics: {metric.title} fails on {shapes}: {one_line(error)[:200]}") from error
        host = on_host(self(output, target))
        means = {name: float(host[name].mean()) for name in host if name in self.means}
        return means | self.numbers(self.states(host, np.zeros(len(output), dtype=np.int64), 1)[0])

    def numbers(self, states: States) -> dict[str, float]:
        """Return the numbers of sums, by the names that they have in records."""
        found: dict[str, float] = {}
        for metric in self.summed:
            if metric.title in states:
                found |= metric.numbers(states[metric.title])
        return found

    def tables(self, states: States) -> dict[str, Any]:
        """Return what else there is to tell of sums, by the metrics' titles."""
        found = {m.title: m.table(states[m.title]) for m in self.summed if m.title in states}
        return {title: table for title, table in found.items() if table is not None}

    def intervals(
        self, numbers: Mapping[str, float], states: States, more: Sequence[Metric] = ()
    ) -> dict[str, Interval]:
        """Return the intervals of the numbers of some examples that are shares of them or areas, by name.

        Args:
            numbers: by name.
            states: the sums that they are of; without the examples of each class there are none.
            more: metrics of further numbers.
        """
        table = self.tables(states).get(Support.name)
        return {} if table is None else intervals((*self.metrics, *more), numbers, table["counts"], table["examples"])

    def columns(self, states: Sequence[States]) -> dict[str, Floats]:
        """Return the numbers of each group, ``[G]``; NaN for a group that has none of that name."""
        each = [self.numbers(one) for one in states] if self.summed else []
        names = dict.fromkeys(name for found in each for name in found)
        return {name: np.array([found.get(name, np.nan) for found in each]) for name in names}

    def apart(self, states: Sequence[States]) -> dict[str, list[State]]:
        """Return the sums of each group of the metrics that clients have in their table, by title; none where none is.

        Groups without sums, as those without examples are, have an empty state.
        """
        kept = [metric for metric in self.summed if metric.by_client]
        found = {metric.title: [metric.of_client(one.get(metric.title, {})) for one in states] for metric in kept}
        return {title: own for title, own in found.items() if any(own)}

    def only(self, states: Sequence[State]) -> list[OneAnswer | None]:
        """Return of each group's sums of the examples of each class, if all its examples have the same answer."""
        support = next((metric for metric in self.summed if isinstance(metric, Support)), None)
        return [support.only(state) if support is not None and state else None for state in states]

    def cells(self, title: str, state: State) -> list[dict[str, Any]] | None:
        """Return what the table of clients holds of the sums of one client; None: there are none."""
        metric = next(metric for metric in self.summed if metric.title == title)
        return (metric.cells(state) or None) if state else None


def together(parts: Iterable[States]) -> States:
    """Add up sums, metric by metric, in the order given."""
    every: dict[str, list[State]] = {}
    for part in parts:
        for title, state in part.items():
            every.setdefault(title, []).append(state)
    return {title: added(states) for title, states in every.items()}


def measured(loss: LossFn, task: Task, chosen: Sequence[Metric] | None = None) -> Measures:
    """Return what an evaluation of a task measures.

    Args:
        loss: the loss.
        task: the task.
        chosen: the metrics; None: those that the task's readers expect.

    Raises:
        ConfigError: one is none of such a task, or two have the same name.
    """
    found: dict[str, Metric] = {}
    usual = [metrics[name]() for name in task.expected] if chosen is None else []
    for position, metric in enumerate(chosen or usual):
        if metric.title == LOSS or metric.title in found:
            raise ConfigError(
                f"metrics[{position}]: {metric.title} is there already; give it another name by label, as in "
                f"{{name: {metric.name or 'f1'}, label: {metric.title}_2}}"
            )
        try:
            found[metric.title] = metric.of(task)
        except ConfigError as error:
            if chosen is None:
                continue  # such as ranks of thousands of labels
            raise ConfigError(f"metrics[{position}]: {error}") from None
    if any(metric.rests_on_classes for metric in found.values()) and len(task.classes) <= MOST_CLASSES:
        support = Support().of(task)
        found.setdefault(support.title, support)
    return Measures(loss, tuple(found.values()), chosen is None, task)
