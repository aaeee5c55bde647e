"""MIFA: the last update of every client, whoever takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedray.algorithms.base import AlgorithmConfig, algorithms
from fedray.algorithms.server import KeepingServer, ServerRule
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.local.program import Width


class Memory(KeepingServer):
    """The server of MIFA: ``G <- G + |S| / N * mean(d_i - last d_i)``, ``x <- x + lr * G``."""

    keeps: ClassVar[Mapping[str, Width]] = {"mean": "trained"}

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        super().move(params, self.kept["mean"].add_(delta, alpha=total.count / self.clients), total)


@algorithms.register("mifa")
@dataclass(frozen=True)
class MIFA(AlgorithmConfig):
    """MIFA (Gu et al., arXiv:2106.04159, Algorithm 1): the model moves by the mean of all N clients' last updates.

    A client that has never taken part counts 0, where the paper waits until all have.  Clients remember their last
    update and send the change, so that the server keeps one vector.

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), MIFA().server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=4)
    >>> for change in (1.0, 0.0):  # of 2 of 4 clients, twice
    ...     server.step(x, Aggregate({"delta": torch.tensor([change])}, weight=2.0, count=2))
    >>> x
    tensor([1.])

    Args:
        server_lr: server learning rate.
    """

    server_lr: float = 1.0
    state: ClassVar[Mapping[str, Width]] = {"last": "trained"}
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def server(self) -> ServerRule:
        """Make the rule that keeps the mean of the last updates."""
        return Memory(self.server_lr)

    def client(self, c: Clients) -> None:
        """Fit, and send how the update differs from the last one."""
        c.fit()
        delta = c.delta
        c.send("delta", delta - c.state["last"])
        c.state["last"] = delta
