"""Lamb on the server: Adam whose step is as long as each layer's parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.config.bounds import check_above_0, check_at_least_0, check_decays
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.server.base import ServerOptimizer, server_optimizers


@server_optimizers.register("lamb")
@dataclass(frozen=True)
class Lamb(ServerOptimizer):
    """LAMB (You et al., arXiv:1904.00962, Algorithm 2) on the gradient ``g = -delta``, with ``phi(z) = z``.

    ``m <- beta1 m + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g^2``; with both divided by their bias
    ``1 - beta^t``, ``r = m / (sqrt(v) + eps)``, and for each tensor of the model
    ``x <- x - lr * |x| / |r + lambda x| * (r + lambda x)``.  The ratio is 1 where one of the norms is 0; norms are
    taken in float64.

    >>> layout = Layout.of(torch.nn.Linear(2, 1, bias=False))
    >>> x, lamb = torch.tensor([3.0, 4.0]), Lamb(lr=0.1)
    >>> lamb.step(x, torch.tensor([1.0, 100.0]), 0.1, lamb.start(x, layout), layout)
    >>> x  # both by 0.1 * 5 / sqrt(2)
    tensor([3.3536, 4.3536])

    Args:
        lr: eta > 0: the share of its norm by which each tensor moves.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to sqrt(v), > 0.
        weight_decay: lambda >= 0.
    """

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decays(beta1=self.beta1, beta2=self.beta2)
        check_above_0(eps=self.eps)
        check_at_least_0(weight_decay=self.weight_decay)

    def start(self, params: Tensor, layout: Layout) -> Parts:
        return {"step": torch.tensor(0.0), "m": torch.zeros_like(params), "v": torch.zeros_like(params)}

    def step(self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout) -> None:
        t, m, v = float(state["step"].add_(1.0)), state["m"], state["v"]
        m.mul_(self.beta1).sub_(delta * (1.0 - self.beta1))
        v.mul_(self.beta2).add_(delta.square().mul_(1.0 - self.beta2))
        root = (v / (1.0 - self.beta2**t)).sqrt_().add_(self.eps)
        direction = (m / (1.0 - self.beta1**t)).div_(root)
        if self.weight_decay:
            direction.add_(params * self.weight_decay)
        for entry in layout.parameters:
            if entry.stop <= len(params):
                x, r = params[entry.start : entry.stop], direction[entry.start : entry.stop]
                size, length = float(x.double().norm()), float(r.double().norm())
                x.sub_(r * (lr * (size / length if size and length else 1.0)))
