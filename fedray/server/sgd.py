"""Server optimizers that go along the mean update: plain, and with momentum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray import optim
from fedray.config.bounds import check_decays
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.server.base import ServerOptimizer, server_optimizers, torch_step


@server_optimizers.register("sgd")
@dataclass(frozen=True)
class SGD(ServerOptimizer):
    """``x <- x + lr * delta``; ``lr = 1`` is FedAvg, and the default of most algorithms.

    >>> x = torch.zeros(1)
    >>> SGD(lr=0.5).step(x, torch.ones(1), 0.5, {}, Layout.of(torch.nn.Linear(1, 1, bias=False)))
    >>> x
    tensor([0.5000])

    Args:
        lr: eta > 0.
    """

    def step(self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout) -> None:
        params.add_(delta if lr == 1.0 else delta * lr)


@server_optimizers.register("momentum")
@dataclass(frozen=True)
class Momentum(ServerOptimizer):
    """Server momentum (Hsu et al., arXiv:1909.06335): ``v <- beta v + delta; x <- x + lr v``, by torch.optim.SGD.

    >>> layout = Layout.of(torch.nn.Linear(1, 1, bias=False))
    >>> x, momentum = torch.zeros(1), Momentum(momentum=0.5)
    >>> state = momentum.start(x, layout)
    >>> for _ in range(2):
    ...     momentum.step(x, torch.ones(1), 1.0, state, layout)
    >>> x  # 1 + 1.5
    tensor([2.5000])

    Args:
        lr: eta > 0.
        momentum: beta in [0, 1); 0 is plain SGD.
        nesterov: use Nesterov momentum, as in the paper's experiments.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decays(momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True: it needs a momentum above 0")

    def start(self, params: Tensor, layout: Layout) -> Parts:
        # Minus 0 leaves every bit of the first gradient, a gradient of minus 0 too, as torch does with none before it.
        return {"momentum_buffer": torch.full_like(params, -0.0)} if self.momentum else {}

    def step(self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout) -> None:
        torch_step(optim.SGD(lr, self.momentum, 0.0, self.nesterov), params, delta, state)
