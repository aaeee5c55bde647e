"""Mime and MimeLite: the server's momentum, held still while clients step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.optim.base import no_plain_sgd
from fedray.server import Server


@algorithms.register("mime")
@dataclass(frozen=True)
class Mime(Algorithm):
    """Mime with momentum (Karimireddy et al., arXiv:2008.03606, Algorithm 1): clients step as one central SGD would.

    Local steps go along ``(1 - beta) (g(y) - g(x) + c) + beta m``: g on the same batch at the client's model y and at
    the global one x, c the mean of the clients' gradients at x over all of their examples, which a survey asks for,
    and m the server's momentum, the same in all steps.  The server then takes the mean model, and
    ``m <- beta m + (1 - beta) c``.  MimeLite steps along ``(1 - beta) g(y) + beta m``.

    Deviations: means are weighted by examples, unless ``weight`` says otherwise; the server may step by its optimizer;
    gradients of the survey are taken in evaluation mode, where dropout is off and norms use running statistics; a
    parameter that stays with its clients has no part in c and m, and steps as in FedAvg.

    >>> Mime(beta=0.5, lite=True)
    Mime(weight='auto', beta=0.5, lite=True, server_lr=None)

    Args:
        beta: the share of the momentum, at least 0 and below 1; with 0 MimeLite is FedAvg, bitwise.
        lite: MimeLite, without the correction by ``c - g(x)``.
        server_lr: another word for ``server.lr``.
    """

    beta: float = 0.9
    lite: bool = False
    server_lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.beta < 1.0:
            raise ValueError(f"beta={self.beta}: it must be at least 0 and below 1")

    def needs(self, optimizer: torch.optim.Optimizer, epochs: Any) -> str | None:
        """Return words if the optimizer is not plain sgd."""
        other = no_plain_sgd(optimizer)
        return other and (
            f"local.optimizer: {self.name} holds the server's momentum still in plain sgd steps; {other} has moments "
            "of its own that move while clients step, which its paper does not treat"
        )

    def survey(self, c: Clients) -> None:
        """Send the gradient of the mean loss at the global model."""
        c.send("gradient", c.shared(c.gradients(c.anchor)))

    def client(self, c: Clients) -> None:
        """Fit along the mixture."""

        def mix(step: Step, grad: Tensor) -> None:
            own = c.shared(grad)
            if not self.lite:
                own.sub_(c.shared(step.gradient(step.anchor))).add_(c.down["gradient"])
            own.mul_(1.0 - self.beta).add_(c.down["momentum"], alpha=self.beta)

        c.fit(gradient=mix)

    def start(self, s: Server) -> Parts:
        """Keep the momentum m, 0 at first."""
        return {"momentum": torch.zeros_like(s.params)}

    def broadcast(self, s: Server) -> Parts:
        """Send m."""
        return {"momentum": s.state["momentum"]}

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model by the mean update, and the momentum by the mean gradient."""
        s.move(total["delta"])
        s.state["momentum"].mul_(self.beta).add_(total["gradient"], alpha=1.0 - self.beta)
