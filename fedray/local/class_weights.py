"""Class weights, for classes of which clients have few examples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.core.losses import LossFn, per_example
from fedray.core.messages import Ints
from fedray.tasks.base import Task


class BalancedLoss(nn.Module):
    """A loss in which each example counts as its class is rare: the mean over a batch of ``w[target] * loss``.

    ``w[k] = N / (K n_k)`` of all clients' ``N`` training examples, ``n_k`` of which are of class k, as scikit-learn's
    ``class_weight="balanced"`` has it.  The sum is divided by the number of examples, not by the sum of their weights
    as in ``CrossEntropyLoss(weight=w)``: there, a client of one class alone would cancel them.

    >>> from fedray.core.losses import cross_entropy
    >>> loss = BalancedLoss(cross_entropy, torch.tensor([0.5, 2.0]))
    >>> loss(torch.zeros(2, 2), torch.tensor([0, 1])) / cross_entropy(torch.zeros(2, 2), torch.tensor([0, 1]))
    tensor(1.2500)

    Args:
        function: the loss of the task.
        weights: of the classes, float32 ``[K]``.
    """

    weights: Tensor

    def __init__(self, function: LossFn, weights: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("weights", weights)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean of a batch."""
        return self.each(output, target).mean()

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of each example, ``[B]``."""
        return per_example(self.function, output, target) * self.weights[target.reshape(len(target)).long()]


def balanced(loss: LossFn, task: Task, target: tuple[int, ...], counts: Ints | None) -> BalancedLoss:
    """Return a loss with balanced class weights.

    Args:
        loss: the loss of the task.
        task: the task.
        target: the shape of an example's target.
        counts: training examples of each client and class, int64 ``[n, K]``; None where targets are no classes.

    Raises:
        ConfigError: an example has no class, or several.
    """
    if counts is None or task.kind != "classes" or task.several or target not in ((), (1,)):
        raise ConfigError(f"local.class_weights: the task must give one class to each example; it is {task.name}")
    rows = torch.from_numpy(counts.sum(axis=0)).double()
    weights = torch.where(rows > 0, rows.sum() / ((rows > 0).sum() * rows.clamp(min=1.0)), 0.0)
    return BalancedLoss(loss, weights.float())


def unweighted(loss: LossFn) -> LossFn:
    """Return a loss without its balanced class weights, as evaluations show it."""
    return loss.function if isinstance(loss, BalancedLoss) else loss
