"""SCAFFOLD: control variates against client drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.optim.base import no_plain_sgd
from fedray.server import Server


@algorithms.register("scaffold")
@dataclass(frozen=True)
class Scaffold(Algorithm):
    """SCAFFOLD (Karimireddy et al., arXiv:1910.06378, Algorithm 1, option II), with plain means as in the paper.

    Clients need the plain ``sgd`` optimizer for the paper's meaning of ``c_i``: with momentum or an adaptive
    optimizer the control variate is the average step divided by the learning rate.

    >>> Scaffold()  # clients keep c_i, and send its change
    Scaffold(weight='auto', server_lr=None)

    Args:
        server_lr: global step size, another word for ``server.lr``.
    """

    server_lr: float | None = None
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def needs(self, optimizer: torch.optim.Optimizer, epochs: Any) -> str | None:
        """Return words if the optimizer is not plain sgd."""
        other = no_plain_sgd(optimizer)
        return other and (
            f"local.optimizer: {self.name}'s control variates are mean gradients with plain sgd alone; with {other} "
            "they are mean steps divided by the learning rate, which its paper does not treat"
        )

    def initial_state(self, c: Clients) -> Parts:
        """Return controls of 0."""
        return {"control": torch.zeros_like(c.shared(c.anchor))}

    def client(self, c: Clients) -> None:
        """Step along ``g_i(y) - c_i + c``, and then set ``c_i <- c_i - c + (x - y) / (K * lr)`` (option II)."""

        def correct(step: Step, grad: Tensor) -> None:
            c.shared(grad).add_(c.down["control"] - c.state["control"][step.rows])

        trace = c.fit(gradient=correct)
        change = c.delta.div_(-trace.lr * trace.steps.clamp(min=1.0)).sub_(c.down["control"])
        c.state["control"].add_(change)
        c.send("control", change)

    def start(self, s: Server) -> Parts:
        """Keep the server's control variate c, 0 at first."""
        return {"control": torch.zeros_like(s.params)}

    def broadcast(self, s: Server) -> Parts:
        """Send c."""
        return {"control": s.state["control"]}

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model by the mean update, and ``c <- c + |S| / N * mean(change of c_i)``."""
        s.move(total["delta"])
        s.state["control"].add_(total["control"] * (total.count / s.clients))
