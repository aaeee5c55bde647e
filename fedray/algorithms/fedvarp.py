"""FedVARP: the last update of every client takes the variance of partial participation away."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedray.algorithms.base import algorithms
from fedray.algorithms.mifa import MIFA, Memory
from fedray.algorithms.server import ServerRule
from fedray.core.messages import Aggregate


class Reduced(Memory):
    """The server of FedVARP: ``x <- x + lr (mean(d_i - y_i) + G)``, ``G <- G + |S| / N * mean(d_i - y_i)``."""

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        ServerRule.move(self, params, delta + self.kept["mean"], total)
        self.kept["mean"].add_(delta, alpha=total.count / self.clients)


@algorithms.register("fedvarp")
@dataclass(frozen=True)
class FedVARP(MIFA):
    """FedVARP (Jhunjhunwala et al., arXiv:2207.14130, Algorithm 2): ``x + mean(d_i - y_i) + mean of all N clients' y``.

    y_i is a client's last update, 0 before its first.  The paper's server keeps all of them; here each client remembers
    its own and sends the change, so that the server keeps their mean alone.  With everyone in every round it is FedAvg
    with a plain mean.

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), FedVARP().server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=4)
    >>> for change in (1.0, 0.0):  # of 2 of 4 clients, twice
    ...     server.step(x, Aggregate({"delta": torch.tensor([change])}, weight=2.0, count=2))
    >>> x  # 1 + 0.5
    tensor([1.5000])

    Args:
        server_lr: server learning rate.
    """

    def server(self) -> ServerRule:
        """Make the rule that keeps the mean of the last updates."""
        return Reduced(self.server_lr)
