"""q-FedAvg: clients that fare badly count more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch.optim import Optimizer

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.optim.base import no_plain_sgd
from fedray.server import Server

_LEAST = 1e-10


@algorithms.register("qfedavg")
@dataclass(frozen=True)
class QFedAvg(Algorithm):
    """q-FedAvg (Li et al., arXiv:1905.10497, Algorithm 2): fairness by the power q of each client's loss.

    With F the loss of the broadcast model on all of a client's examples (1e-10 is added), d its update and L = 1 / lr:
    ``Delta = F^q L d``, ``h = q F^(q - 1) ||L d||^2 + L F^q``, ``x <- x + sum Delta / sum h``.  Both are sent over L.

    >>> QFedAvg(q=0.2).q
    0.2

    Args:
        q: >= 0; 0 is FedAvg with a plain mean.
    """

    q: float = 1.0
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(q=self.q)

    def needs(self, optimizer: Optimizer, epochs: Any) -> str | None:
        """Return words if the optimizer is not plain sgd."""
        other = no_plain_sgd(optimizer)
        return other and (
            f"local.optimizer: {self.name} takes 1 / lr for the Lipschitz constant of the gradient, as of plain sgd; "
            f"the learning rate of {other} is no such bound, and its paper does not treat it"
        )

    def client(self, c: Clients) -> None:
        """Fit, and send the update by the loss before it."""
        loss = c.losses(c.anchor) + _LEAST
        trace = c.fit()
        scale, delta = loss.pow(self.q), c.delta
        c.send("delta", scale.unsqueeze(1) * delta)
        c.send("h", self.q * loss.pow(self.q - 1.0) * delta.square().sum(dim=1) / trace.lr + scale)

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model by the sum of the updates over that of h."""
        s.move(total["delta"] / total["h"])
