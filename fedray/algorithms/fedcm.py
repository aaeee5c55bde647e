"""FedCM and MoFedSAM: the last global step is mixed into the clients' gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.algorithms.fedsam import ascended
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.optim.base import no_plain_sgd
from fedray.server import Server


@algorithms.register("fedcm")
@dataclass(frozen=True)
class FedCM(Algorithm):
    """FedCM (Xu et al., arXiv:2106.10874, Algorithm 2): steps along ``alpha * g + (1 - alpha) * m``.

    ``m`` is the last global change for a local step of rate 1.  The paper's clients all take K steps; where they
    differ, the mean change is divided by the mean of ``lr * K``: ``m <- -mean(d_i) / mean(lr_i K_i)``.

    >>> FedCM(alpha=0.2).alpha
    0.2

    Args:
        alpha: the share of the client's own gradient, in (0, 1]; 1 is FedAvg.
        server_lr: another word for ``server.lr``.
    """

    alpha: float = 0.1
    server_lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha}: it must be above 0 and at most 1")

    def own(self, step: Step, grad: Tensor) -> None:
        """Change a client's own gradient, before it is mixed; by default not at all."""

    def needs(self, optimizer: torch.optim.Optimizer, epochs: Any) -> str | None:
        """Return words if the optimizer is not plain sgd."""
        other = no_plain_sgd(optimizer)
        return other and (
            f"local.optimizer: {self.name} mixes the last global step over lr * K into gradients, which is a mean "
            f"gradient with plain sgd alone; with {other} it is a mean step, which its paper does not treat"
        )

    def client(self, c: Clients) -> None:
        """Fit along the mixture, and send ``lr * K``."""

        def mix(step: Step, grad: Tensor) -> None:
            self.own(step, grad)
            c.shared(grad).mul_(self.alpha).add_(c.down["momentum"], alpha=1.0 - self.alpha)

        trace = c.fit(gradient=mix)
        c.send("path", trace.lr * trace.steps.clamp(min=1.0))

    def start(self, s: Server) -> Parts:
        """Keep the last step, 0 at first."""
        return {"momentum": torch.zeros_like(s.params)}

    def broadcast(self, s: Server) -> Parts:
        """Send the last step."""
        return {"momentum": s.state["momentum"]}

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model, and keep the step."""
        s.move(total["delta"])
        s.state["momentum"].copy_(total["delta"] / -total["path"])


@algorithms.register("mofedsam")
@dataclass(frozen=True)
class MoFedSAM(FedCM):
    """MoFedSAM (Qu et al., arXiv:2206.02618, Algorithm 2): FedCM with the gradient at ``w + rho * g / ||g||``.

    >>> MoFedSAM(rho=0.05, alpha=0.2)
    MoFedSAM(weight='auto', alpha=0.2, server_lr=None, rho=0.05)

    Args:
        rho: the length of the ascent, >= 0; 0 is FedCM.
    """

    rho: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(rho=self.rho)

    def own(self, step: Step, grad: Tensor) -> None:
        """Take the gradient a little further up."""
        ascended(self.rho)(step, grad)
