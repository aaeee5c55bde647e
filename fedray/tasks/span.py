"""A span of a sequence: the places of its first and its last value, as of an answer in a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.tasks.base import Answers, tasks
from fedray.tasks.positions import Positions


def best_span(output: Tensor) -> Tensor:
    """Return the likeliest first and last place, int64 ``[B, 2]``, of which the last is not before the first.

    >>> best_span(torch.tensor([[[0.0, 4.0], [3.0, 0.0], [1.0, 2.0]]]))  # no end at 0, as it begins at 1
    tensor([[1, 2]])

    Args:
        output: logits of both, ``[B, T, 2]``.
    """
    start, place = output[..., 0].cummax(dim=1)
    last = (start + output[..., 1]).argmax(dim=1, keepdim=True)
    return torch.cat([place.gather(1, last), last], dim=1)


@tasks.register("span")
@dataclass(frozen=True)
class Span(Positions):
    """A span, by its first and its last place: logits ``[B, T, 2]``, int64 targets ``[B, 2]``.

    The loss is the mean of the cross-entropies of both, over all T places, as transformers has it for answers to
    questions; what is predicted is the likeliest pair of which the last place is not before the first.

    >>> task = Span(ignore_index=9)
    >>> logits, target = torch.zeros(2, 4, 2), torch.tensor([[1, 2], [9, 9]])  # the second row has no span
    >>> round(float(task.loss(logits, target)), 4), task.counts(target)
    (1.3863, tensor([2, 0]))
    """

    usual: ClassVar[tuple[str, ...]] = ("exact_match", "accuracy")

    @property
    def targets(self) -> str:
        """The targets of an example, in words."""
        return "the first and the last place of a span (span)"

    def predicted(self, output: Tensor) -> Tensor:
        """Return the first and the last place, ``[B, 2]``."""
        return best_span(output)

    def probabilities(self, output: Tensor) -> None:  # type: ignore[override]
        """Return None: places are as many as a row is long, and no classes."""

    def answers(self, output: Tensor, target: Tensor) -> Answers:
        """Return the first and the last place that are said, and the right ones."""
        return Answers(self.predicted(output), target, self.known(target))

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError unless there are two logits for each place, and two targets."""
        if len(shape) != 3 or shape[2] != 2 or target[1:] != (2,):
            raise ConfigError(
                f"task: span has logits [B, T, 2] for targets [B, 2]; the model gives {shape} for {target}"
            )
