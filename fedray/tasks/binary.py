"""Questions of yes or no: one for each example, or several."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.core.errors import ConfigError, counted
from fedray.data.spec import DataSpec
from fedray.tasks.base import OF_YES_OR_NO, Answers, Ranking, Task, tasks
from fedray.tasks.threshold import MIDDLE, check_threshold, in_words, log_odds, replaced


class YesNo(Task):
    """The base of tasks with a logit for each question, whose answer is yes above :attr:`least`."""

    kind: ClassVar[Literal["classes", "numbers"]] = "classes"

    @property
    def least(self) -> float:
        """The logit above which an answer is yes."""
        return 0.0

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean binary cross-entropy of the logits."""
        return F.binary_cross_entropy_with_logits(output, target.to(output.dtype).reshape(output.shape))

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the binary cross-entropy of each example, the mean over its questions, ``[B]``."""
        wanted = target.to(output.dtype).reshape(output.shape)
        losses = F.binary_cross_entropy_with_logits(output, wanted, reduction="none")
        return losses.reshape(len(output), -1).mean(dim=1)

    def answers(self, output: Tensor, target: Tensor) -> Answers:
        """Return 1 where the answer is yes, and where a target is above one half, each ``[B, n]``."""
        said, is_ = output.reshape(len(output), -1) > self.least, target.reshape(len(target), -1) > 0.5
        return Answers(said.to(torch.int64), is_.to(torch.int64))

    def confidence(self, output: Tensor) -> Tensor:
        """Return the probabilities of the answers, ``[B, n]``."""
        logits = output.reshape(len(output), -1)
        return torch.sigmoid(torch.where(logits > self.least, logits, -logits))


@tasks.register("binary")
@dataclass(frozen=True)
class Binary(YesNo):
    """Yes or no by one logit: outputs ``[B]`` or ``[B, 1]``, targets 0 and 1, integers ``[B]`` or floats ``[B, 1]``.

    Of the pixels of a picture, too: as many outputs as targets, ``[B, 1, H, W]``.  The loss is binary cross-entropy.  A
    model that the config names gets one output.

    >>> task = Binary().of(DataSpec((4,), 2, classes=("benign", "malignant")))
    >>> task.answers(torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 1])).right.flatten()
    tensor([True, True])
    >>> task.loss(torch.zeros(2, 1), torch.tensor([0, 1]))
    tensor(0.6931)
    >>> task.predicted(torch.tensor([[-0.5]])), task.at(0.3).predicted(torch.tensor([[-0.5]]))
    (tensor([0]), tensor([1]))

    Args:
        threshold: the probability of yes above which that is the answer, in (0, 1): for metrics and predictions alike;
            the training does not depend on it.
    """

    threshold: float = MIDDLE

    usual: ClassVar[tuple[str, ...]] = OF_YES_OR_NO

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def at(self, threshold: float) -> Self:
        """Return the task with another threshold; ConfigError unless it is a probability."""
        return replaced(self, threshold)

    @property
    def least(self) -> float:
        """The logit above which an answer is yes."""
        return log_odds(self.threshold)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of no and yes."""
        return self.spec.classes if len(self.spec.classes) == 2 else ("0", "1")

    @property
    def targets(self) -> str:
        """No and yes, by one logit, or by one for each pixel, in words.

        >>> Binary().of(DataSpec((4,), 2, classes=("benign", "malignant"))).targets
        'one logit, benign or malignant (binary)'
        """
        shape = self.spec.target
        logits = f"{' x '.join(map(str, shape))} logits, each" if shape else "one logit,"
        return f"{logits} {' or '.join(self.classes)} (binary){in_words(self.threshold, self.classes[1])}"

    def for_model(self, spec: DataSpec) -> DataSpec:
        """Return the examples as a named model sees them: with one output."""
        return replace(spec, outputs=1)

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError unless there is one output and one target for each example, or for each of its pixels."""
        single = (target[0],), (target[0], 1)
        pixels = len(target) > 2 and shape[0] == target[0] and math.prod(shape) == math.prod(target)
        if not pixels and (shape not in single or target not in single):
            raise ConfigError(
                f"task: binary has one output and one target, 0 or 1, for each example; the model gives {shape} for "
                f"targets {target}"
            )
        if self.spec.task == "classification" and self.spec.outputs > 2:
            raise ConfigError(f"task: binary has targets 0 and 1, and there are {self.spec.outputs} classes")

    def predicted(self, output: Tensor) -> Tensor:
        """Return 1 where the answer is yes, ``[B]``."""
        return (output.reshape(len(output)) > self.least).to(torch.int64)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the probabilities of no and yes, ``[B, 2]``."""
        logit = output.reshape(len(output))
        return torch.sigmoid(torch.stack([-logit, logit], dim=1))

    def ranking(self, output: Tensor, target: Tensor) -> Ranking:
        """Return the logits."""
        return Ranking(output.reshape(len(output), 1, -1), target.reshape(len(target), 1, -1) > 0.5)


@tasks.register("multilabel")
@dataclass(frozen=True)
class Multilabel(YesNo):
    """Several questions of yes or no: logits ``[B, L]``, targets ``[B, L]`` of 0 and 1, integers or floats.

    The loss is binary cross-entropy, the mean over labels.

    >>> Multilabel().answers(torch.tensor([[-1.0, 3.0]]), torch.tensor([[1.0, 1.0]])).right
    tensor([[False,  True]])

    Args:
        names: the names of the labels, in order; default: those of the data, else their numbers.
    """

    names: list[str] = field(default_factory=list)

    usual: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "auroc")

    def of(self, spec: DataSpec, target: tuple[int, ...] = ()) -> Self:
        """Return the task of some data, whose integers are no classes but a row of labels each."""
        rows = len(target) == 2 and spec.task == "classification"
        return super().of(replace(spec, outputs=target[1], classes=()) if rows else spec)

    @property
    def targets(self) -> str:
        """The labels of an example, in words.

        >>> Multilabel().of(DataSpec((4,), 3, "regression")).targets
        '3 labels (multilabel)'
        """
        return f"{counted(self.spec.outputs, 'label')} (multilabel)"

    @property
    def several(self) -> bool:
        """True: each label is a question of its own."""
        return True

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels."""
        return tuple(self.names) or super().classes

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError unless there is an output for each target."""
        if shape != target or len(shape) != 2:
            raise ConfigError(
                f"task: multilabel has an output and a target, 0 or 1, for each label, [B, L]; the model gives {shape} "
                f"for targets {target}"
            )
        if self.names and len(self.names) != shape[1]:
            raise ConfigError(f"task.names: {len(self.names)} names are given for {shape[1]} labels")

    def predicted(self, output: Tensor) -> Tensor:
        """Return 1 for each label that an example is said to have, ``[B, L]``."""
        return (output > 0).to(torch.int64)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the probability of each label, ``[B, L]``."""
        return torch.sigmoid(output)

    def ranking(self, output: Tensor, target: Tensor) -> Ranking:
        """Return the logits of each label."""
        return Ranking(output.unsqueeze(2), target.unsqueeze(2) > 0.5)
