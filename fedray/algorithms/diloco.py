"""DiLoCo: many steps of AdamW on each client, and Nesterov momentum on the server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch.optim import Optimizer

from fedray.algorithms.base import Algorithm, algorithms
from fedray.config.sections import LocalSection
from fedray.server import Momentum, ServerOptimizer


@algorithms.register("diloco")
@dataclass(frozen=True)
class DiLoCo(Algorithm):
    """DiLoCo (Douillard et al., arXiv:2311.08105, Algorithm 1): language models trained far apart, which seldom talk.

    Each client takes H steps (``local.steps``) of its inner optimizer, the paper's AdamW, whose moments stay with it
    from round to round; the mean of the clients' changes is an outer gradient, which moves the model with Nesterov
    momentum: ``v <- momentum v + d; x <- x + server_lr (d + momentum v)``.  The paper has all clients in each round, a
    plain mean of them, H = 500, and begins with a model that was trained for a while already.  ``int8`` and ``int4``
    among the transforms round outer gradients.

    With ``momentum = 0``, ``server_lr = 1`` and ``keep = False`` it is FedAvg with a plain mean, bitwise.

    Deviation: the learning rate changes with the rounds (``local.lr_schedule``), and not within one.

    >>> DiLoCo().server()
    Momentum(lr=0.7, lr_schedule='constant', momentum=0.9, nesterov=True)
    >>> DiLoCo().local(LocalSection(steps=50)).keep_optimizer
    True

    Args:
        server_lr: outer learning rate; another word for ``server.lr``.
        momentum: of the outer steps, in [0, 1).
        keep: ``local.keep_optimizer: true``; False: as the section ``local`` has it.
    """

    server_lr: float = 0.7
    momentum: float = 0.9
    keep: bool = True

    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"

    def server(self) -> ServerOptimizer:
        """Return Nesterov momentum."""
        return Momentum(self.server_lr, self.momentum, nesterov=self.momentum > 0.0)

    def local(self, args: LocalSection) -> LocalSection:
        """Return the section with what optimizers remember."""
        return replace(args, keep_optimizer=True) if self.keep else args

    def needs(self, optimizer: Optimizer, epochs: Any) -> str | None:
        """Return words if the inner optimizer is not AdamW."""
        if isinstance(optimizer, torch.optim.AdamW):
            return None
        return (
            f"local.optimizer: DiLoCo's inner optimizer is AdamW, whose moments stay with the clients; with "
            f"{type(optimizer).__name__} it is another method, which its paper does not treat"
        )
