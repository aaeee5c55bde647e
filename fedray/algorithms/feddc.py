"""FedDC: each client's drift is kept apart from its model, and corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.optim.base import no_plain_sgd
from fedray.server import Server


@algorithms.register("feddc")
@dataclass(frozen=True)
class FedDC(Algorithm):
    """FedDC (Gao et al., arXiv:2203.11751, Algorithm 1), with plain means.

    A client steps along ``g(w) + alpha (w + h_i - x) - c_i + c``, then ``h_i <- h_i + (w_i - x)``: its drift, from 0.
    The server moves to the mean of ``w_i``, plus the mean drift h: ``h <- h + |S| / N * mean(d_i)``,
    ``x <- x + mean(d_i) + h``.  It is FedDyn's step with the gradient correction of the paper's third term, which is
    SCAFFOLD's: ``c_i <- c_i - c + (x - w_i) / (K lr)`` and c the mean of all c_i.

    Two things are as in the authors' code: c_i is SCAFFOLD's, with its own correction taken off again, where the paper
    writes the last update alone; and the mean drift is that of all N clients, which is the mean of ``w_i + h_i`` of the
    paper where everyone takes part.  Their clip of gradients at 10 is ``local.clip_grad_norm``'s.

    Two are not.  All clients count alike, where the paper weighs them by their examples, and its code divides alpha and
    c by a client's examples over the mean number.  K and lr are those of a client and round, where the code has one
    ``K lr`` for all: the mean number of steps, and the first learning rate.

    >>> FedDC(alpha=0.01).alpha
    0.01

    Args:
        alpha: strength of the penalty, > 0.
    """

    alpha: float = 0.1
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True
    uses_server: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_above_0(alpha=self.alpha)
        super().__post_init__()

    def needs(self, optimizer: torch.optim.Optimizer, epochs: Any) -> str | None:
        """Return words if the optimizer is not plain sgd."""
        other = no_plain_sgd(optimizer)
        return other and (
            f"local.optimizer: {self.name}'s correction is of mean gradients with plain sgd alone; with {other} it is "
            "of mean steps divided by the learning rate, which its paper does not treat"
        )

    def initial_state(self, c: Clients) -> Parts:
        """Return drifts and controls of 0."""
        return {"drift": torch.zeros_like(c.shared(c.anchor)), "control": torch.zeros_like(c.shared(c.anchor))}

    def client(self, c: Clients) -> None:
        """Fit with penalty and correction, and move drift and control."""
        drift, control, mean = c.state["drift"], c.state["control"], c.down["control"]

        def correct(step: Step, grad: Tensor) -> None:
            away = c.shared(step.params) - c.shared(step.anchor) + drift[step.rows]
            c.shared(grad).add_(away.mul_(self.alpha)).add_(mean - control[step.rows])

        trace = c.fit(gradient=correct)
        change = c.delta / (-trace.lr * trace.steps.clamp(min=1.0)) - mean
        c.state["drift"] = drift + c.delta
        c.state["control"] = control + change
        c.send("control", change)

    def start(self, s: Server) -> Parts:
        """Keep the means of controls and drifts, 0 at first."""
        return {"control": torch.zeros_like(s.params), "drift": torch.zeros_like(s.params)}

    def broadcast(self, s: Server) -> Parts:
        """Send the mean control."""
        return {"control": s.state["control"]}

    def step(self, s: Server, total: Aggregate) -> None:
        """Move both means, and the model by the mean update and the mean drift."""
        share = total.count / s.clients
        s.params.add_(total["delta"] + s.state["drift"].add_(total["delta"], alpha=share))
        s.state["control"].add_(total["control"] * share)
