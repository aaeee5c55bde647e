"""Optimizers by name, for clients and for the server."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.optim import Optimizer

from fedray.optim.base import TorchOptimizer, optimizers


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
