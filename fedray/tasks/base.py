"""The task: what the output of a model says of an example."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

from torch import Tensor

from fedray.config.registry import Registry
from fedray.core.errors import ConfigError
from fedray.core.losses import LossFn
from fedray.data.columns.base import ClientData
from fedray.data.spec import DataSpec

OF_YES_OR_NO = ("accuracy", "auroc", "f1", "sensitivity", "specificity")
"""The metrics that readers expect of two classes, one of which is the positive one."""


class Answers(NamedTuple):
    """The classes that a model gives to the positions of examples, and the right ones.

    A position is what has one class: an example, a label of an example, a pixel, a token.

    >>> import torch
    >>> Answers(torch.tensor([[1], [0]]), torch.tensor([[1], [1]])).right
    tensor([[ True],
            [False]])

    Args:
        predicted: int64 ``[B, n]``.
        actual: int64 ``[B, n]``.
        known: False for positions that do not count, ``[B, n]``; None: all do.
    """

    predicted: Tensor
    actual: Tensor
    known: Tensor | None = None

    @property
    def right(self) -> Tensor:
        """True where the answer is right, and the position counts, ``[B, n]``."""
        right = self.predicted == self.actual
        return right if self.known is None else right & self.known


class Ranking(NamedTuple):
    """Scores of positions, each of which belongs to a class or does not.

    Args:
        scores: the larger, the more a position is thought to belong, float ``[B, K, n]``: for each of K questions.
        positive: True where it does, ``[B, K, n]``.
        known: False for positions that do not count, ``[B, n]``; None: all do.
    """

    scores: Tensor
    positive: Tensor
    known: Tensor | None = None


class Task:
    """The base of tasks: what a model's output says of an example, for the loss and for metrics.

    >>> import torch
    >>> from fedray.tasks import Classification
    >>> task = Classification().of(DataSpec((4,), 2, classes=("benign", "malignant")))
    >>> isinstance(task, Task), task.classes
    (True, ('benign', 'malignant'))
    >>> task.answers(torch.tensor([[0.5, 2.0]]), torch.tensor([1])).right
    tensor([[True]])
    """

    name: ClassVar[str] = "task"

    kind: ClassVar[Literal["classes", "numbers"]] = "numbers"
    """``classes`` where it has ``answers``, ``ranking`` and ``confidence``."""

    usual: ClassVar[tuple[str, ...]] = ()
    """The metrics that its readers expect, beside the loss."""

    usual_of_two: ClassVar[tuple[str, ...]] = ()
    """Those that they expect where there are two classes; empty: the same."""

    padded: ClassVar[bool] = False
    """True where targets may be sequences of different lengths, whose padding counts in no loss and no metric."""

    pairs: ClassVar[bool] = False
    """True where targets answer the inputs: a text is two sequences, of which the second is to be said."""

    spec: ClassVar[DataSpec] = DataSpec((), 0)
    """The examples that it is about."""

    def of(self, spec: DataSpec, target: tuple[int, ...] = ()) -> Self:
        """Return the task of some data.

        Args:
            spec: the examples.
            target: the shape of some targets, if that is known.

        Raises:
            ConfigError: targets of different lengths, for which it has no place.
        """
        if spec.padding is not None and not self.padded:
            raise ConfigError(
                f"task: {self.name} has no place for targets of different lengths; token_classification has, a class "
                "for each value, and causal_lm and seq2seq_lm, the next one; of a text that has one class data.target "
                "names its column"
            )
        found = copy.copy(self)
        object.__setattr__(found, "spec", spec)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers; the numbers where they have none."""
        return self.spec.classes or tuple(map(str, range(self.spec.outputs)))

    @property
    def expected(self) -> tuple[str, ...]:
        """The metrics that its readers expect of such data, beside the loss."""
        return self.usual_of_two if self.usual_of_two and len(self.classes) == 2 else self.usual

    @property
    def targets(self) -> str:
        """The targets of an example, in words, for the log."""
        return self.spec.targets

    @property
    def partial(self) -> bool:
        """True where some positions may not count."""
        return False

    @property
    def unsaid(self) -> int:
        """The number of positions at the beginning of targets that no output is about."""
        return 0

    @property
    def loss_fn(self) -> LossFn:
        """Its loss, for ``local.loss: auto``."""
        return TaskLoss(self)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        raise NotImplementedError(f"{self.name} has no loss of its own")

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each example, ``[B]``."""
        raise NotImplementedError(f"{self.name} has no loss of its own")

    def for_model(self, spec: DataSpec) -> DataSpec:
        """Return the examples as a model that the config names sees them."""
        return spec

    def counts(self, target: Tensor) -> Tensor:
        """Return the number of each example's positions that count, ``[B]``, of a task that is ``partial``."""
        raise NotImplementedError(f"{self.name} counts examples")

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError, with both shapes, unless outputs and targets of these shapes go together."""

    @property
    def several(self) -> bool:
        """True where each class is a question of its own, and not one of which a position has one."""
        return False

    def at(self, threshold: float) -> Self:
        """Return the task with another threshold: the probability of the second class above which it is the answer.

        Raises:
            ConfigError: it has none, as it is not of two classes; or it is no probability.
        """
        raise ConfigError(
            f"threshold: it is the probability of the second of two classes (binary, or classification of two), and "
            f"the task is {self.name}; leave it out"
        )

    def answers(self, output: Tensor, target: Tensor) -> Answers:
        """Return the classes that an output gives, and the right ones."""
        raise NotImplementedError(f"{self.name} has no classes")

    def ranking(self, output: Tensor, target: Tensor) -> Ranking:
        """Return the scores for each class; of two classes, those for the second alone.

        Scores may be anything that rises with the probability: margins, rather than probabilities, of which a confident
        model gives many that are 1.
        """
        raise NotImplementedError(f"{self.name} has no classes")

    @property
    def words(self) -> str:
        """Words for the log on what it has learnt; empty: nothing."""
        return ""

    def learnt(self, data: ClientData) -> Self:
        """Return the task with what it learns from the training examples of the clients."""
        return self

    def told(self, section: Mapping[str, Any] | None) -> Self:
        """Return the task with what that of a run had learnt, whose ``section`` of a config is in its checkpoints."""
        return self

    def scaled(self, loss: LossFn) -> LossFn:
        """Return a loss, given targets in their own unit, where the model's outputs have another."""
        return loss

    def unscaled(self, output: Tensor) -> Tensor:
        """Return outputs ``[B, ...]`` as metrics see them: in the unit of the targets."""
        return output

    def predicted(self, output: Tensor) -> Tensor:
        """Return what an output says: the numbers of classes, or numbers in the targets' unit, ``[B, ...]``."""
        return self.unscaled(output)

    def probabilities(self, output: Tensor) -> Tensor | None:
        """Return the probability of each class, ``[B, K, ...]``; None where there are no classes."""
        return None

    def confidence(self, output: Tensor) -> Tensor:
        """Return the probabilities of the classes that an output gives, ``[B, n]``."""
        raise NotImplementedError(f"{self.name} has no classes")

    def by_class(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return a number for each class, ``[A, K]``, as it adds to the outputs of A clients, ``[A, B, ...]``."""
        raise NotImplementedError(f"{self.name} has no classes")

    def entropy(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each example, summed over its positions, and their number, each ``[B]``."""
        raise NotImplementedError(f"{self.name} has no classes")


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a task, as a function that knows the loss of each example.

    Args:
        task: the task.
    """

    task: Task

    @property
    def ignore_index(self) -> int | None:
        """The target that does not count, if there is one."""
        return getattr(self.task, "ignore_index", None)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.task.loss(output, target)

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each example, ``[B]``."""
        return self.task.each(output, target)


class PositionsLoss(TaskLoss):
    """The loss of a task some of whose positions do not count: sums, and numbers of positions."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.sums(output, target).sum() / self.counts(target).sum().clamp(min=1)

    def sums(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum of each example's losses, ``[B]``."""
        return self.task.entropy(output, target)[0]

    def counts(self, target: Tensor) -> Tensor:
        """Return the number of each example's positions that count, ``[B]``."""
        return self.task.counts(target)


tasks = Registry("task", package="fedray.tasks", base=Task, such_as="fedray.tasks.Binary()")
