"""Numbers: of any shape, one output for each target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from fedray.core.errors import ConfigError, listed
from fedray.core.losses import LossFn, mse
from fedray.data.columns.base import ClientData
from fedray.tasks.base import Task, tasks
from fedray.tasks.standardized import StandardizedLoss, target_moments


@tasks.register("regression")
@dataclass(frozen=True)
class Regression(Task):
    """Numbers of any shape: float outputs and targets ``[B, ...]``, one output for each target.

    With ``standardize_target`` the model learns ``(target - mean) / std``, with the moments of the training targets of
    all clients; metrics and predictions are in the targets' own unit, the loss is that of what is learnt.

    >>> import torch
    >>> Regression().kind, Regression().usual
    ('numbers', ('mse',))
    >>> Regression(standardize_target=True, mean=[10.0], std=[2.0]).unscaled(torch.tensor([[1.0]]))
    tensor([[12.]])

    Args:
        standardize_target: train on targets in standard units.
        mean: one number for each target, or one for all; default: learnt.  Clients then tell the server their sums.
        std: the same, each above 0.
    """

    standardize_target: bool = False
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both, or neither to have them learnt")
        if self.mean is None or self.std is None:
            return
        if not self.standardize_target:
            raise ValueError("mean and std are for standardize_target: true")
        if len(self.mean) != len(self.std) or not all(value > 0.0 for value in self.std):
            raise ValueError(f"mean={self.mean}, std={self.std}: as many of both are needed, each std above 0")

    usual: ClassVar[tuple[str, ...]] = ("mse",)

    @property
    def loss_fn(self) -> LossFn:
        """The mean squared error."""
        return mse

    @property
    def words(self) -> str:
        """The moments of the targets."""
        if self.mean is None or self.std is None:
            return ""
        told = [f"{mean:.4g} ± {std:.4g}" for mean, std in zip(self.mean, self.std, strict=True)]
        return f"the model learns targets in standard units of {listed(told)}"

    def learnt(self, data: ClientData) -> Self:
        """Return it with the moments of the training targets, where it has none yet and needs them."""
        if not self.standardize_target or self.mean is not None:
            return self
        mean, std = target_moments(data)
        return replace(self, mean=mean.tolist(), std=std.tolist()).of(self.spec)

    def told(self, section: Mapping[str, Any] | None) -> Self:
        """Return it with the moments of a run's training targets."""
        numbers = section or {}
        if not self.standardize_target or self.mean is not None or numbers.get("mean") is None:
            return self
        return replace(self, mean=list(numbers["mean"]), std=list(numbers["std"])).of(self.spec)

    def scaled(self, loss: LossFn) -> LossFn:
        """Return the loss of outputs in standard units."""
        return loss if self.mean is None or self.std is None else StandardizedLoss(loss, self.mean, self.std)

    def unscaled(self, output: Tensor) -> Tensor:
        """Return outputs in the unit of the targets."""
        if self.mean is None or self.std is None:
            return output
        mean, std = (output.new_tensor(numbers) for numbers in (self.mean, self.std))
        return output * std + mean

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError where torch would compare each output with each target, as of ``[B]`` and ``[B, 1]``."""
        if len(shape) != len(target):
            raise ConfigError(
                f"model: it gives {shape} for targets {target}; they must have as many dimensions under task: "
                "regression. Where targets are classes, the task is classification, or binary"
            )
        if self.mean is not None and len(self.mean) not in (1, target[-1]):
            raise ConfigError(f"task.mean: {len(self.mean)} numbers are given for targets {target}")
