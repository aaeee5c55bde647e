"""The registry of losses."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fedray.config.imported import ImportedFunction
from fedray.config.registry import Registry
from fedray.core.losses import LossFn, cross_entropy, mse


@dataclass(frozen=True)
class UserLoss(ImportedFunction):
    """A function (output, target, **options) to a scalar, or a class that gives one, such as ``torch.nn:HuberLoss``."""

    arguments: ClassVar[int] = 2


losses = Registry("loss", package="fedray.local.losses", imported=UserLoss)
losses.register("cross_entropy")(cross_entropy)
losses.register("mse")(mse)


def loss_on(loss: LossFn, device: torch.device) -> LossFn:
    """Return a loss for a device: a module with tensors, such as class weights, as a copy there, any other as it is.

    >>> weighted = torch.nn.CrossEntropyLoss(weight=torch.ones(3))
    >>> loss_on(weighted, torch.device("meta")).weight.device, weighted.weight.device
    (device(type='meta'), device(type='cpu'))

    Args:
        loss: the loss of the task.
        device: the device of the model.
    """
    function = loss.function if isinstance(loss, ImportedFunction) else loss
    if not isinstance(function, nn.Module):
        return loss
    tensors = [*function.parameters(), *function.buffers()]
    return copy.deepcopy(function).to(device) if any(tensor.device != device for tensor in tensors) else loss
