"""FedAMP: each client is held near a mixture of all clients' models, made for it of those that are like its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0, check_at_least_0
from fedray.core.messages import Aggregate
from fedray.core.regions import Entry, Region
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.server import PerClient, Server


@algorithms.register("fedamp")
@dataclass(frozen=True)
class FedAMP(Algorithm):
    """FedAMP (Huang et al., arXiv:2007.03797, Algorithm 1): models stay with their clients, who attend to their like.

    With ``A(x) = 1 - exp(-x / sigma)`` the server sends client i ``u_i = (1 - sum_j a_ij) w_i + sum_j a_ij w_j``, where
    ``a_ij = alpha A'(|w_i - w_j|^2)``, of the models that it and all others sent last: a step of gradient descent on
    the sum of A over all pairs (whose factor 2 is in alpha).  The client trains its own model, from where it was, on
    ``F_i(w) + lam / (2 alpha) |w - u_i|^2``, and sends it.  The paper lets all clients take part in each round and
    minimises exactly; here are cohorts and local steps.  All begin with the run's first model.  Their models lie on
    disk, and for each client that takes part the server reads all of them: D values for each pair.  The paper's
    heuristic for deep networks, with cosines in the place of A', is left out.  Buffers stay with their client.

    >>> FedAMP(alpha=0.1).sigma
    10.0

    Args:
        alpha: step size on the server, > 0; below ``sigma / N`` a client's own model has a share in ``u_i``.
        sigma: squared distance at which attention falls to 1 / e, > 0.
        lam: weight of the distance, >= 0; with 0 clients train as in ``local_only``, bitwise.
    """

    alpha: float = 0.5
    sigma: float = 10.0
    lam: float = 0.1
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uses_server: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_0(alpha=self.alpha, sigma=self.sigma)
        check_at_least_0(lam=self.lam)

    def region(self, entry: Entry) -> Region:
        """Return ``personal`` for everything."""
        return "personal"

    def client(self, c: Clients) -> None:
        """Fit near the mixture, and send the model."""

        def attract(step: Step, grad: Tensor) -> None:
            grad.add_((step.params - c.down["mixture"][step.rows]).mul_(self.lam / self.alpha))

        c.fit(gradient=attract if self.lam else None)
        c.send("own", c.params, apart=True)

    def broadcast(self, s: Server) -> dict[str, PerClient]:
        """Send each client its mixture."""
        return {"mixture": PerClient(s.layout.trained, partial(self.mixture, s))}

    def mixture(self, s: Server, client: int) -> Tensor:
        """Return ``u_i`` of a client, ``[D]``; who has sent nothing yet has the first model."""
        own, others = s.vector[: s.layout.trained].double(), s.rows.clients
        if client in others:
            own = s.rows.read("own", others[others == client])[0].double()
        moved = torch.zeros_like(own)
        for clients, rows in s.rows.pieces("own"):
            away = rows.double() - own
            attention = self.alpha / self.sigma * torch.exp(-away.square().sum(dim=1) / self.sigma)
            attention[torch.from_numpy(clients == client)] = 0.0
            moved += attention @ away
        return (own + moved).float()

    def step(self, s: Server, total: Aggregate) -> None:
        """Move nothing: the models are with the clients."""
