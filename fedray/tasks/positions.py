"""A class for each position of an example: its pixels, or its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.losses import LossFn
from fedray.data.spec import DataSpec
from fedray.tasks.base import Answers, PositionsLoss, Ranking, TaskLoss, tasks
from fedray.tasks.classification import OneOfClasses


@dataclass(frozen=True)
class Positions(OneOfClasses):
    """The base of tasks with a class for each position.

    Args:
        ignore_index: the target of positions that do not count, at least 0; None: all do.
    """

    ignore_index: int | None = None

    def __post_init__(self) -> None:
        if self.ignore_index is not None and self.ignore_index < 0:
            raise ValueError(f"ignore_index={self.ignore_index}: it must be at least 0, as targets are")

    @property
    def targets(self) -> str:
        """The classes of each position, in words.

        >>> Segmentation().of(DataSpec((1, 8, 8), 3)).targets
        'one of 3 classes at each position (segmentation)'
        """
        return f"one of {self.spec.outputs:,} classes at each position ({self.name})"

    @property
    def partial(self) -> bool:
        """True where some positions may not count."""
        return self.ignore_index is not None

    @property
    def loss_fn(self) -> LossFn:
        """Cross-entropy of the positions that count."""
        return PositionsLoss(self) if self.partial else TaskLoss(self)

    def logits(self, output: Tensor) -> Tensor:
        """Return outputs as ``[B, K, n]``."""
        return output.flatten(2)

    def labels(self, target: Tensor) -> Tensor:
        """Return targets as ``[B, n]``."""
        return target.flatten(1)

    def known(self, labels: Tensor) -> Tensor | None:
        """Return False for positions that do not count; None: all do."""
        return None if self.ignore_index is None else labels != self.ignore_index

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the positions that count."""
        index = -100 if self.ignore_index is None else self.ignore_index
        return F.cross_entropy(self.logits(output), self.labels(target), ignore_index=index)

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the positions of each example that count, ``[B]``; 0 where none does."""
        total, count = self.entropy(output, target)
        return total / count.clamp(min=1)

    def counts(self, target: Tensor) -> Tensor:
        """Return the number of positions of each example that count, ``[B]``."""
        labels = self.labels(target)
        known = self.known(labels)
        return (torch.ones_like(labels) if known is None else known).sum(dim=1)

    def class_counts(self, target: Tensor) -> Tensor:
        """Return how many positions of some examples are of each class and count, int64 ``[K]``.

        >>> Segmentation(ignore_index=2).of(DataSpec((1, 2, 2), 3)).class_counts(torch.tensor([[[0, 1], [2, 1]]]))
        tensor([1, 2, 0])
        """
        labels = self.labels(target)
        known = self.known(labels)
        return torch.bincount((labels if known is None else labels[known]).flatten(), minlength=self.spec.outputs)

    def answers(self, output: Tensor, target: Tensor) -> Answers:
        """Return the class of the largest logit, and the right one, of each position."""
        labels = self.labels(target)
        return Answers(self.logits(output).argmax(dim=1), labels, self.known(labels))

    def ranking(self, output: Tensor, target: Tensor) -> Ranking:
        """Return the log-odds of each class against all others."""
        labels = self.labels(target)
        return super().ranking(self.logits(output), labels)._replace(known=self.known(labels))

    def confidence(self, output: Tensor) -> Tensor:
        """Return the largest of the softmax, ``[B, n]``."""
        return super().confidence(self.logits(output))

    def entropy(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each example, summed over its positions, and their number, each ``[B]``."""
        labels = self.labels(target)
        index = -100 if self.ignore_index is None else self.ignore_index
        each = F.cross_entropy(self.logits(output), labels, ignore_index=index, reduction="none")
        known = self.known(labels)
        count = torch.ones_like(each) if known is None else known.to(each.dtype)
        return each.sum(dim=1), count.sum(dim=1)

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError unless there are logits for each position."""
        if len(shape) != len(target) + 1 or (*shape[:1], *shape[2:]) != target:
            raise ConfigError(
                f"task: {self.name} has logits [B, K, ...] for targets [B, ...]; the model gives {shape} for {target}"
            )


@tasks.register("segmentation")
@dataclass(frozen=True)
class Segmentation(Positions):
    """A class for each pixel: logits ``[B, K, H, W]``, targets ``[B, H, W]``; of any number of dimensions.

    >>> task = Segmentation(ignore_index=255)
    >>> logits, target = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]]]]), torch.tensor([[[0, 255]]])
    >>> round(float(task.loss(logits, target)), 4), task.answers(logits, target).right
    (0.1269, tensor([[ True, False]]))
    """

    usual: ClassVar[tuple[str, ...]] = ("accuracy", "miou", "dice")


class Tokens(Positions):
    """The base of tasks whose logits have the classes last, ``[B, T, K]``, as Hugging Face models give them.

    The padding of targets of different lengths is their ``ignore_index``.
    """

    padded: ClassVar[bool] = True

    def of(self, spec: DataSpec, target: tuple[int, ...] = ()) -> Self:
        """Return the task of some data.

        Raises:
            ConfigError: another target than that of padding is ignored.
        """
        found = super().of(spec, target)
        if spec.padding is not None:
            if self.ignore_index not in (None, spec.padding):
                raise ConfigError(
                    f"task: ignore_index={self.ignore_index}, but the targets are padded with {spec.padding}, which "
                    f"does not count by itself: leave ignore_index out, or pad with it: Ragged(..., "
                    f"pad={self.ignore_index})"
                )
            object.__setattr__(found, "ignore_index", spec.padding)
        return found

    def logits(self, output: Tensor) -> Tensor:
        """Return outputs as ``[B, K, T]``."""
        return output.transpose(1, 2)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the tokens that count."""
        total, count = self.entropy(output, target)
        return total.sum() / count.sum()

    def entropy(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each example, summed over its tokens, and their number, each ``[B]``.

        Logits stay as they lie in memory: a copy with the classes first would take as much again, and three times as
        long.
        """
        labels, index = self.labels(target), -100 if self.ignore_index is None else self.ignore_index
        # What the last output says is behind the sequence: its label does not count, so that no logit is moved.
        padded = F.pad(labels, (0, output.shape[1] - labels.shape[1]), value=index)
        flat = output.flatten(0, 1), padded.flatten()
        each = F.cross_entropy(*flat, ignore_index=index, reduction="none").view(padded.shape)
        known = self.known(labels)
        count = each.new_full((len(each),), labels.shape[1]) if known is None else known.to(each.dtype).sum(dim=1)
        return each.sum(dim=1), count

    def by_class(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return a number for each class, ``[A, K]``, as it adds to logits ``[A, B, T, K]``."""
        return values[:, None, None, : outputs.shape[-1]]

    def predicted(self, output: Tensor) -> Tensor:
        """Return the class of the largest logit of each token, ``[B, T]``."""
        return output.argmax(dim=2)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the softmax of each token, ``[B, K, T]``."""
        return F.softmax(output.transpose(1, 2), dim=1)

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError unless there are logits for each token."""
        if len(shape) != 3 or shape[:2] != target:
            raise ConfigError(
                f"task: {self.name} has logits [B, T, K] for targets [B, T]; the model gives {shape} for {target}"
            )


@tasks.register("token_classification")
@dataclass(frozen=True)
class TokenClassification(Tokens):
    """A class for each token: logits ``[B, T, K]``, targets ``[B, T]``.

    >>> task = TokenClassification(ignore_index=9)
    >>> logits, target = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0, 9]])
    >>> round(float(task.loss(logits, target)), 4)
    0.1269
    """

    usual: ClassVar[tuple[str, ...]] = ("accuracy", "f1")
