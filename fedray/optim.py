"""Optimizers by name, for clients and for the server: ``torch.optim`` with typed options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from fedray.config.imported import ImportedFunction
from fedray.config.registry import Registry

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


def eager(kind: type[Optimizer]) -> type[Optimizer]:
    """Return a ``torch.optim`` class with the same arithmetic and without what it does for ``torch.compile``.

    That part imports torch's compiler with a process's first optimizer: 1.5 s of a worker's start, more where those 800
    files come over a network.  Nothing here is compiled.

    Args:
        kind: the class; not for ``differentiable=True``.
    """
    step = inspect.unwrap(kind.step)

    @torch.no_grad()
    def without_grad(self: Optimizer, closure: None = None) -> None:
        step(self, closure)

    plain = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    members = {name: inspect.unwrap(getattr(kind, name)) for name in plain}
    return type(kind.__name__, (kind,), {"step": without_grad, **members})


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
        options: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "betas" in options:
            options["betas"] = tuple(options["betas"])
        return self._eager(params, **options)


@optimizers.register("sgd")
@dataclass(frozen=True)
class SGD(TorchOptimizer):
    """Stochastic gradient descent, with momentum and weight decay (torch.optim.SGD).

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> SGD(lr=0.1, momentum=0.9)([weight]).step()
    >>> round(weight.item(), 6)
    0.9
    """

    kind: ClassVar[type[Optimizer]] = torch.optim.SGD

    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True: it needs a momentum above 0")


@optimizers.register("adam")
@dataclass(frozen=True)
class Adam(TorchOptimizer):
    """Adam, arXiv:1412.6980 (torch.optim.Adam: with bias correction, eps outside the root).

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> Adam(lr=0.01)([weight]).step()
    >>> round(weight.item(), 6)
    0.99
    """

    kind: ClassVar[type[Optimizer]] = torch.optim.Adam

    lr: float = 0.001
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.0


@optimizers.register("adamw")
@dataclass(frozen=True)
class AdamW(TorchOptimizer):
    """Adam with decoupled weight decay, arXiv:1711.05101 (torch.optim.AdamW).

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> AdamW(lr=0.01, weight_decay=0.1)([weight]).step()
    >>> round(weight.item(), 6)
    0.989
    """

    kind: ClassVar[type[Optimizer]] = torch.optim.AdamW

    lr: float = 0.001
    betas: list[float] = dataclasses.field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.01


@optimizers.register("rmsprop")
@dataclass(frozen=True)
class RMSprop(TorchOptimizer):
    """RMSprop (torch.optim.RMSprop).

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> RMSprop(lr=0.01)([weight]).step()
    >>> round(weight.item(), 6)
    0.9
    """

    kind: ClassVar[type[Optimizer]] = torch.optim.RMSprop

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0


@optimizers.register("adagrad")
@dataclass(frozen=True)
class Adagrad(TorchOptimizer):
    """Adagrad (torch.optim.Adagrad).

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> Adagrad(lr=0.01)([weight]).step()
    >>> round(weight.item(), 6)
    0.99
    """

    kind: ClassVar[type[Optimizer]] = torch.optim.Adagrad

    lr: float = 0.01
    eps: float = 1e-10
    initial_accumulator_value: float = 0.0
    weight_decay: float = 0.0
