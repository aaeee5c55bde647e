"""MIFA: the last update of every client, whoever takes part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.server import Server


@algorithms.register("mifa")
@dataclass(frozen=True)
class MIFA(Algorithm):
    """MIFA (Gu et al., arXiv:2106.04159, Algorithm 1): the model moves by the mean of all N clients' last updates.

    A client that has never taken part counts 0, where the paper waits until all have.  Clients remember their last
    update and send the change, so that the server keeps one vector: ``G <- G + |S| / N * mean(d_i - last d_i)``,
    ``x <- x + lr * G``.

    >>> from fedray.parts import Layout
    >>> x, mifa = torch.zeros(1), MIFA()
    >>> s = Server(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=4)
    >>> s.state = mifa.start(s)
    >>> for change in (1.0, 0.0):  # of 2 of 4 clients, twice
    ...     mifa.step(s, Aggregate({"delta": torch.tensor([change])}, weight=2.0, count=2))
    >>> x
    tensor([1.])

    Args:
        server_lr: another word for ``server.lr``.
    """

    server_lr: float | None = None
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def initial_state(self, c: Clients) -> Parts:
        """Return updates of 0."""
        return {"last": torch.zeros_like(c.shared(c.anchor))}

    def client(self, c: Clients) -> None:
        """Fit, and send how the update differs from the last one."""
        c.fit()
        delta = c.delta
        c.send("delta", delta - c.state["last"])
        c.state["last"] = delta

    def start(self, s: Server) -> Parts:
        """Keep the mean of the last updates, 0 at first."""
        return {"mean": torch.zeros_like(s.params)}

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the mean, and the model by it."""
        s.move(s.state["mean"].add_(total["delta"], alpha=total.count / s.clients))
