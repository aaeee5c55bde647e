"""AFL: the mixture of clients that the model does worst on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.server import Server


@algorithms.register("afl")
@dataclass(frozen=True)
class AFL(Algorithm):
    """Agnostic federated learning (Mohri et al., arXiv:1902.00146, Algorithm 1): the least of the worst mixture.

    The model goes down ``sum_i l_i F_i``, and the shares l of the N clients go up it: ``l <- P(l + gamma F)``, with F_i
    the loss of the broadcast model on all of a client's examples and P the nearest point of the simplex.  The paper
    takes one gradient; here clients do the configured work, and their updates count ``N l_i``.  Of a cohort both sums
    are estimated with ``N / |S|``, as the paper's stochastic gradients; its average of all models is not taken.

    >>> AFL(gamma=0.1).gamma
    0.1

    Args:
        gamma: step of the shares, >= 0; 0 is FedAvg with a plain mean, bitwise.
        server_lr: another word for ``server.lr``.
    """

    gamma: float = 0.01
    server_lr: float | None = None
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(gamma=self.gamma)

    def client(self, c: Clients) -> None:
        """Send the loss before the fit, and the update as often as the client counts."""
        times = c.down["times"][torch.from_numpy(c.index).to(c.device)]
        c.send("loss", c.losses(c.anchor), slot=c.index, slots=len(c.down["times"]))
        c.fit()
        c.send("delta", times.unsqueeze(1) * c.delta)

    def start(self, s: Server) -> Parts:
        """Keep N times the share of each client, 1 at first."""
        return {"times": s.params.new_ones(s.clients)}

    def broadcast(self, s: Server) -> Parts:
        """Send them."""
        return {"times": s.state["times"]}

    def step(self, s: Server, total: Aggregate) -> dict[str, float]:
        """Move the model, and the shares up the losses."""
        s.move(total["delta"])
        times = s.state["times"]
        heard = total["loss"].flatten() * (s.clients / total.count)
        times.copy_(s.clients * _nearest(times / s.clients + self.gamma * heard) if self.gamma else times)
        return {"largest_share": float(times.max()) / s.clients}


def _nearest(point: Tensor) -> Tensor:
    """Return the nearest point of the simplex.

    >>> _nearest(torch.tensor([0.5, 0.7, -0.2]))
    tensor([0.4000, 0.6000, 0.0000])
    """
    falling = point.double().sort(descending=True).values
    above = (falling.cumsum(0) - 1.0) / torch.arange(1, len(point) + 1, device=point.device)
    return (point - above[int((falling > above).sum()) - 1]).clamp(min=0.0).float()
