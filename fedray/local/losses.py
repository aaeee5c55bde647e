"""The registry of losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedray.config.imported import ImportedFunction
from fedray.config.registry import Registry
from fedray.core.losses import cross_entropy, mse


@dataclass(frozen=True)
class UserLoss(ImportedFunction):
    """A function (output, target, **options) to a scalar, or a class that gives one, such as ``torch.nn:HuberLoss``."""

    arguments: ClassVar[int] = 2


losses = Registry("loss", package="fedray.local.losses", imported=UserLoss)
losses.register("cross_entropy")(cross_entropy)
losses.register("mse")(mse)
