"""FedVARP: the last update of every client takes the variance of partial participation away."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.algorithms.base import algorithms
from fedray.algorithms.mifa import MIFA
from fedray.core.messages import Aggregate
from fedray.server import Server


@algorithms.register("fedvarp")
@dataclass(frozen=True)
class FedVARP(MIFA):
    """FedVARP (Jhunjhunwala et al., arXiv:2207.14130, Algorithm 2): ``x + mean(d_i - y_i) + mean of all N clients' y``.

    y_i is a client's last update, 0 before its first.  The paper's server keeps all of them; here each client remembers
    its own and sends the change, so that the server keeps their mean G alone: ``x <- x + lr (mean(d_i - y_i) + G)``,
    ``G <- G + |S| / N * mean(d_i - y_i)``.  The paper divides updates by the client's step and the number of steps, and
    multiplies the sum by both, which is the same where all clients have the same.  With everyone in every round it is
    FedAvg with a plain mean.

    >>> import torch
    >>> from fedray.parts import Layout
    >>> x, varp = torch.zeros(1), FedVARP()
    >>> s = Server(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=4)
    >>> s.state = varp.start(s)
    >>> for change in (1.0, 0.0):  # of 2 of 4 clients, twice
    ...     varp.step(s, Aggregate({"delta": torch.tensor([change])}, weight=2.0, count=2))
    >>> x  # 1 + 0.5
    tensor([1.5000])

    Args:
        server_lr: another word for ``server.lr``.
    """

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model by the mean of the changes and that of the last updates, and then this mean."""
        mean = s.state["mean"]
        s.move(total["delta"] + mean)
        mean.add_(total["delta"], alpha=total.count / s.clients)
