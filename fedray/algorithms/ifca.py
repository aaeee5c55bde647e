"""IFCA: several models, of which each client trains the one that suits it best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0, check_at_least_0
from fedray.core.messages import Aggregate, Parts
from fedray.core.rng import torch_generator
from fedray.local.clients import Clients
from fedray.server import Server


@algorithms.register("ifca")
@dataclass(frozen=True)
class IFCA(Algorithm):
    """IFCA (Ghosh et al., arXiv:2006.04088, Algorithm 1 with model averaging): one model for each cluster of clients.

    A client receives all k models ``w_j``, takes ``argmin_j F_i(w_j)`` with F_i the loss on all of its examples, the
    first of equals, and trains that one; ``w_j`` moves by the plain mean of the updates of those who took it, and stays
    where nobody did.  The paper draws the first models at random; here the first is the run's first model, and the
    others are that with normal noise on each parameter.  Its averaging of gradients, and layers that clusters share,
    are left out.  Buffers are one mean for all.  Clients are evaluated with the model that they would take.  The
    server's vector is the first cluster's model, and goes down as any model does, encoded where the broadcast is; those
    of the others stand beside it, and go down in float32.

    >>> IFCA(clusters=3).clusters
    3

    Args:
        clusters: k, at least 1; 1 is FedAvg with a plain mean, bitwise.
        spread: standard deviation of the noise, >= 0; with 0 all clients take the first model.
    """

    clusters: int = 2
    spread: float = 0.1
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uses_server: ClassVar[bool] = False
    global_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_0(clusters=self.clusters)
        check_at_least_0(spread=self.spread)

    def taken(self, c: Clients) -> tuple[Tensor, Tensor]:
        """Return the cluster of each client, ``[C]``, and its model, ``[C, S]``."""
        others = [c.down["others"].view(-1, c.layout.shared)] if self.clusters > 1 else []
        models, losses = torch.cat([c.shared(c.down["model"]).unsqueeze(0), *others]), []
        for model in models:
            whole = c.anchor.expand_as(c.params).clone()
            c.shared(whole).copy_(model)
            losses.append(c.losses(whole))
        cluster = torch.stack(losses).argmin(dim=0)
        return cluster, models[cluster]

    def client(self, c: Clients) -> None:
        """Fit the model with the least loss, and send its update to its cluster."""
        cluster, model = self.taken(c)
        c.shared(c.params).copy_(model)
        c.fit()
        c.send("delta", c.shared(c.params) - model, slot=cluster, slots=self.clusters)

    def personal(self, c: Clients) -> Tensor:
        """Return the models that the clients take, ``[C, D]``."""
        c.shared(c.params).copy_(self.taken(c)[1])
        return c.params

    def start(self, s: Server) -> Parts:
        """Keep the models of all clusters but the first, one after the other."""
        noise = torch.randn(self.clusters - 1, len(s.params), generator=torch_generator(s.seed, "init", round=1))
        others = (s.params + self.spread * noise.to(s.params.device)).flatten()
        return {"others": others} if self.clusters > 1 else {}

    def broadcast(self, s: Server) -> Parts:
        """Send those models, beside the first."""
        return s.state

    def step(self, s: Server, total: Aggregate) -> dict[str, float]:
        """Move each model by the mean update of its cluster."""
        s.params.add_(total["delta"][0])
        if self.clusters > 1:
            s.state["others"].add_(total["delta"][1:].flatten())
        return {f"share_{number}": float(share) for number, share in enumerate(total.shares["delta"])}
