"""The base of optimizers by name: a class of ``torch.optim`` with typed options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from fedray.config.imported import ImportedFunction
from fedray.config.registry import Registry
from fedray.optim._eager import eager

OptimizerFn = Callable[[Iterable[Tensor]], Optimizer]


@dataclass(frozen=True)
class UserOptimizer(ImportedFunction):
    """A function or a class of ``torch.optim``'s kind, called with the parameters and the options."""

    classes: ClassVar[tuple[type, ...]] = (Optimizer,)


optimizers = Registry("optimizer", package="fedray.optim", imported=UserOptimizer)

ELEMENTWISE: tuple[type[Optimizer], ...] = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.ASGD,
)
"""Optimizers that treat every value by itself: one instance over ``[C, D]`` trains C clients at once."""


def steps_apart(optimizer: Optimizer) -> bool:
    """Return True if it is known to give each tensor the same bits whether that steps alone or with the others.

    Of one that the user has made this is not known: it may have hooks, which would be called more often.
    """
    return getattr(type(optimizer), "eager_of", None) in ELEMENTWISE


def no_plain_sgd(optimizer: Optimizer) -> str:
    """Return words for an optimizer whose steps are not the gradients times the learning rate; empty: they are.

    >>> x = [torch.zeros(1, requires_grad=True)]
    >>> [no_plain_sgd(one) for one in (torch.optim.SGD(x, 0.1), torch.optim.SGD(x, 0.1, 0.9), torch.optim.Adam(x))]
    ['', 'momentum 0.9', 'Adam']
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return type(optimizer).__name__
    momentum = optimizer.param_groups[0]["momentum"]
    return f"momentum {momentum:g}" if momentum else ""


@dataclass(frozen=True)
class TorchOptimizer:
    """Base: the fields are the keyword arguments of the ``torch.optim`` class; ValueError for one out of range.

    >>> @dataclass(frozen=True)
    ... class NAdam(TorchOptimizer):
    ...     kind: ClassVar[type[Optimizer]] = torch.optim.NAdam
    ...     lr: float = 0.002
    >>> NAdam(lr=0.01)([torch.zeros(1, requires_grad=True)]).param_groups[0]["lr"]
    0.01
    """

    lr: float

    kind: ClassVar[type[Optimizer]] = torch.optim.SGD
    """The class whose steps these are."""

    _eager: ClassVar[type[Optimizer]]

    def __init_subclass__(cls) -> None:
        cls._eager = eager(cls.kind)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "lr" and not value > 0.0:
                raise ValueError(f"lr={value}: it must be above 0")
            if field.name == "betas" and not (len(value) == 2 and all(0.0 <= beta < 1.0 for beta in value)):
                raise ValueError(f"betas={value}: two numbers are needed, each at least 0 and below 1")
            if field.name == "momentum" and not 0.0 <= value < 1.0:
                raise ValueError(f"momentum={value}: it must be at least 0 and below 1")
            if isinstance(value, int | float) and not value >= 0.0:
                raise ValueError(f"{field.name}={value}: it must be at least 0")

    def __call__(self, params: Iterable[Tensor]) -> Optimizer:
        """Make the optimizer over ``params``."""
        return self._eager(params, **self._options)

    @cached_property
    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "betas" in options:
            options["betas"] = tuple(options["betas"])
        return options
