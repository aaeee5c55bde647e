"""Data without targets: the model itself says what an example loses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedray.tasks.base import Task, tasks


@tasks.register("unsupervised")
@dataclass(frozen=True)
class Unsupervised(Task):
    """No targets: outputs are the loss of each example, ``[B]``, or of its parts, ``[B, ...]``.

    A loss of your own makes something else of the output; its targets are ``[B, 0]``.

    >>> import torch
    >>> Unsupervised().loss(torch.tensor([1.0, 3.0]), torch.zeros(2, 0))
    tensor(2.)
    """

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the outputs."""
        return output.mean()

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean output of each example, ``[B]``."""
        return output.reshape(len(output), -1).mean(dim=1)
