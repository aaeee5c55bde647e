"""One of several classes: of an example, or of each of its positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.losses import LossFn, cross_entropy
from fedray.data.columns.checks import IGNORED
from fedray.data.spec import DataSpec
from fedray.tasks.base import OF_YES_OR_NO, Answers, Ranking, Task, tasks
from fedray.tasks.threshold import MIDDLE, check_threshold, in_words, log_odds, replaced


def margins(logits: Tensor) -> Tensor:
    """Return the log-odds of each class, ``[B, K, ...]``, of logits ``[B, K, ...]``.

    >>> margins(torch.tensor([[0.0, 3.0]]))
    tensor([[-3.,  3.]])
    """
    if logits.shape[1] == 2:
        margin = logits[:, 1] - logits[:, 0]
        return torch.stack([-margin, margin], dim=1)
    # The sum over the classes before each, and that over those behind it: no difference of what is nearly equal.
    nothing = torch.full_like(logits[:, :1], -torch.inf)
    before = torch.cat([nothing, logits[:, :-1].logcumsumexp(dim=1)], dim=1)
    behind = torch.cat([logits[:, 1:].flip(1).logcumsumexp(dim=1).flip(1), nothing], dim=1)
    return logits - torch.logaddexp(before, behind)


class OneOfClasses(Task):
    """The base of tasks with a logit for each class, of an example or of each of its positions."""

    kind: ClassVar[Literal["classes", "numbers"]] = "classes"
    usual: ClassVar[tuple[str, ...]] = ("accuracy",)

    @property
    def loss_fn(self) -> LossFn:
        """Cross-entropy."""
        return cross_entropy

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError where there are fewer outputs than classes."""
        classes = self.spec.outputs
        if len(shape) == len(target) + 1 and shape[2:] == target[1:] and shape[1] < classes:
            more = f"; {IGNORED}" if len(target) > 1 else ""
            raise ConfigError(f"model: it gives {shape[1]} outputs for {classes} classes{more}")

    def answers(self, output: Tensor, target: Tensor) -> Answers:
        """Return the class that is said, and the right one, each ``[B, n]``."""
        return Answers(self.predicted(output).reshape(len(output), -1), target.reshape(len(target), -1))

    def ranking(self, output: Tensor, target: Tensor) -> Ranking:
        """Return the log-odds of each class against all others."""
        logits, actual = output.reshape(*output.shape[:2], -1), target.reshape(len(target), 1, -1)
        if output.shape[1] == 2:
            return Ranking(margins(logits)[:, 1:], actual == 1)
        classes = torch.arange(output.shape[1], device=output.device).view(1, -1, 1)
        return Ranking(margins(logits), actual == classes)

    def predicted(self, output: Tensor) -> Tensor:
        """Return the class of the largest logit, ``[B, ...]``."""
        return output.argmax(dim=1)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the softmax, ``[B, K, ...]``."""
        return F.softmax(output, dim=1)

    def confidence(self, output: Tensor) -> Tensor:
        """Return the largest of the softmax, ``[B, n]``."""
        return F.softmax(output, dim=1).amax(dim=1).reshape(len(output), -1)

    def by_class(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return a number for each class, ``[A, K]``, as it adds to logits ``[A, B, K, ...]``.

        >>> Classification().by_class(torch.zeros(5, 3), torch.zeros(5, 8, 3, 4, 4)).shape
        torch.Size([5, 1, 3, 1, 1])
        """
        return values[:, None, : outputs.shape[2]].reshape(len(values), 1, -1, *[1] * (outputs.dim() - 3))

    def entropy(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each example, summed over its positions, and their number, each ``[B]``."""
        each = F.cross_entropy(output, target, reduction="none").reshape(len(target), -1)
        return each.sum(dim=1), torch.full_like(each[:, 0], each.shape[1])


@tasks.register("classification")
@dataclass(frozen=True)
class Classification(OneOfClasses):
    """One of K classes: logits ``[B, K]``, int64 targets ``[B]``; for positions ``[B, K, T]`` and ``[B, T]``.

    >>> task = Classification()
    >>> logits, target = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([0, 1])
    >>> task.answers(logits, target).predicted
    tensor([[0],
            [2]])
    >>> task.confidence(logits)
    tensor([[0.7870],
            [0.5761]])
    >>> [Classification().of(DataSpec((4,), classes)).expected for classes in (3, 2)]
    [('accuracy',), ('accuracy', 'auroc', 'f1', 'sensitivity', 'specificity')]

    Args:
        threshold: of two classes the probability of the second one above which it is the answer, in (0, 1): for metrics
            and predictions alike; the training does not depend on it.
    """

    threshold: float = MIDDLE

    usual_of_two: ClassVar[tuple[str, ...]] = OF_YES_OR_NO

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def of(self, spec: DataSpec, target: tuple[int, ...] = ()) -> Self:
        """Return the task of some data.

        Raises:
            ConfigError: a threshold of classes that are not two.
        """
        found = super().of(spec, target)
        return found if self.threshold == MIDDLE else found.at(self.threshold)

    def at(self, threshold: float) -> Self:
        """Return the task with another threshold.

        Raises:
            ConfigError: it is no probability, or there are not two classes.
        """
        if self.spec.outputs != 2:
            raise ConfigError(
                f"threshold: it is the probability of the second of two classes, and there are {self.spec.outputs}; "
                "leave it out"
            )
        return replaced(self, threshold)

    @property
    def targets(self) -> str:
        """The classes of an example, in words, for the log."""
        return super().targets + in_words(self.threshold, self.classes[-1])

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError where there are fewer outputs than classes, or more beside a threshold."""
        super().check(shape, target)
        if self.threshold != MIDDLE and shape[1:2] != (2,):
            raise ConfigError(
                f"threshold: of two classes the model has two outputs, or one with task: binary; it gives {shape}"
            )

    def predicted(self, output: Tensor) -> Tensor:
        """Return the class that is said, ``[B, ...]``: the likeliest one, or the second of two above the threshold."""
        if self.threshold == MIDDLE:
            return super().predicted(output)
        return (margins(output)[:, 1] > log_odds(self.threshold)).to(torch.int64)

    def confidence(self, output: Tensor) -> Tensor:
        """Return the probability of the class that is said, ``[B, n]``."""
        if self.threshold == MIDDLE:
            return super().confidence(output)
        said = self.predicted(output).unsqueeze(1)
        return F.softmax(output, dim=1).gather(1, said).reshape(len(output), -1)
