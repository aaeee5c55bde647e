"""Targets in standard units: their moments over clients, and a loss that trains on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray.config.imported import ImportedFunction
from fedray.core.losses import LossFn, per_example
from fedray.data.columns.base import ClientData
from fedray.data.encoding.moments import Sums

Numbers = NDArray[np.float64]


class StandardizedLoss(nn.Module):
    """A loss of outputs in standard units, given targets in their own.

    >>> loss = StandardizedLoss(nn.functional.mse_loss, [10.0], [2.0])
    >>> loss(torch.tensor([[1.0]]), torch.tensor([[12.0]]))
    tensor(0.)

    Args:
        loss: of outputs and standardised targets.
        mean: of the targets, ``[k]``, or one for all.
        std: their standard deviation, the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, loss: LossFn, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        inner = loss.function if isinstance(loss, ImportedFunction) else loss
        # A module that moves to the model's device with this one.
        self.loss = inner if isinstance(inner, nn.Module) else loss
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        found: Tensor = self.loss(output, (target - self.mean) / self.std)
        return found

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each example, ``[B]``."""
        return per_example(self.loss, output, (target - self.mean) / self.std)


def target_moments(data: ClientData) -> tuple[Numbers, Numbers]:
    """Return mean and population standard deviation of the training targets of all clients.

    Each client gives counts, sums and sums of squares, about zero and then about the mean, those of a silo where it
    lies; sums over clients are rounded once, so that their order does not show.

    Returns:
        One number for each of ``[N, k]`` targets, or one in all for targets of a higher rank; a deviation of 0 is 1.
    """
    columns = 1 if data.spec.target else data.spec.outputs
    first = _sums(data, np.zeros(columns))
    second = _sums(data, first.mean())
    std = second.deviation()
    return second.mean(), np.where(std > 0.0, std, 1.0)


def _sums(data: ClientData, center: Numbers) -> Sums:
    each = data.target_sums(center)
    names = ("count", "total", "squares")
    whole = [
        np.array([math.fsum(column) for column in zip(*(getattr(one, name) for one in each), strict=True)])
        for name in names
    ]
    return Sums(center, *whole)
