"""Numbers: of any shape, one output for each target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedray.core.errors import ConfigError
from fedray.core.losses import LossFn, mse
from fedray.tasks.base import Task, tasks


@tasks.register("regression")
@dataclass(frozen=True)
class Regression(Task):
    """Numbers of any shape: float outputs and targets ``[B, ...]``, one output for each target.

    >>> Regression().kind, Regression().usual
    ('numbers', ('mse',))
    """

    usual: ClassVar[tuple[str, ...]] = ("mse",)

    @property
    def loss_fn(self) -> LossFn:
        """The mean squared error."""
        return mse

    def check(self, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Raise ConfigError where torch would compare each output with each target, as of ``[B]`` and ``[B, 1]``."""
        if len(shape) != len(target):
            raise ConfigError(f"model: it gives {shape} for targets {target}; they must have as many dimensions")
