"""FedALA: clients learn how much of the global head they take over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.optim import SGD


@algorithms.register("fedala")
@dataclass(frozen=True)
class FedALA(Algorithm):
    """FedALA (Zhang et al., arXiv:2212.01197, Algorithm 1): clients start from ``v + (x - v) * W`` in the head.

    v is the client's model after its last round, x the global one, W a matrix with an entry for each parameter of the
    head: it begins at 1, stays with the client, and before the client trains goes down the gradient of the loss of that
    start, one pass over the local data at the rate ``eta``, cut to [0, 1] after each step.  Below the head clients
    start from x.  A client is evaluated with v.

    The paper learns W on a random 80 % of the local data, here it is all of them; and in a client's second round, the
    first in which W matters, until it converges, here for one pass as in the others.

    >>> FedALA(eta=0.1).eta
    0.1

    Args:
        eta: learning rate of W, >= 0; with 0 what is sent is FedAvg's, bitwise.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(eta=self.eta)

    def initial_state(self, c: Clients) -> Parts:
        """Return the global model, and weights that take all of it."""
        return {"previous": c.down["model"], "mix": torch.ones(c.layout.trained, device=c.device)}

    def client(self, c: Clients) -> None:
        """Learn the weights, start from the mixture, and fit."""
        previous, mix = c.state["previous"][:, : c.layout.trained], c.state["mix"]

        def start(step: Step) -> Tensor:
            return step.loss(step.forward(torch.lerp(previous[step.rows], step.anchor, step.params)))

        def cut(step: Step) -> None:
            step.params.clamp_(0.0, 1.0)

        if self.eta:
            c.fit(mix, only=lambda e: e.head, epochs=1, objective=start, after=cut, optimizer=SGD(self.eta))
        # torch.lerp is exact at 1, where v + (x - v) is not.
        c.params.copy_(torch.lerp(previous, c.anchor.expand_as(mix), mix))
        c.fit()
        c.state["previous"] = c.model.clone()

    def personal(self, c: Clients) -> Tensor:
        """Return the clients' models after their last round, ``[C, P]``."""
        return c.state["previous"]
