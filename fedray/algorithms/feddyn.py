"""FedDyn: a dynamic regularizer for each client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedray.algorithms.base import AlgorithmConfig, algorithms, check_above_0
from fedray.algorithms.server import KeepingServer, ServerRule
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients, Step
from fedray.local.program import Width


class DynamicServer(KeepingServer):
    """The server of FedDyn: ``h <- h - alpha |S| / N * mean(delta)``, ``x <- x + mean(delta) - h / alpha``.

    Args:
        alpha: as of the clients.
    """

    keeps: ClassVar[Mapping[str, Width]] = {"h": "trained"}

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self._alpha = alpha

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        h = self.kept["h"].sub_(delta, alpha=self._alpha * total.count / self.clients)
        super().move(params, delta - h / self._alpha, total)


@algorithms.register("feddyn")
@dataclass(frozen=True)
class FedDyn(AlgorithmConfig):
    """FedDyn (Acar et al., arXiv:2111.04263, Algorithm 1), with plain means as in the paper.

    A client steps along ``g(w) - h_i + alpha (w - x)`` and then sets ``h_i <- h_i - alpha (w_i - x)``; h_i starts at 0.
    The paper's clients solve their local problem; here they do the configured work.  N is the whole federation.

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), FedDyn(alpha=0.5).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=4)
    >>> server.step(x, Aggregate({"delta": torch.ones(1)}, weight=2.0, count=2))  # 2 of 4 clients
    >>> x
    tensor([1.5000])

    Args:
        alpha: strength of the regularizer, > 0.
    """

    alpha: float = 0.1
    state: ClassVar[Mapping[str, Width]] = {"h": "trained"}
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_above_0(alpha=self.alpha)
        super().__post_init__()

    def server(self) -> ServerRule:
        """Make the server's half."""
        return DynamicServer(self.alpha)

    def client(self, c: Clients) -> None:
        """Fit with the linear and the quadratic term, and move the linear one."""
        h = c.state["h"]

        def bend(step: Step, grad: Tensor) -> None:
            grad.add_((step.params - c.anchor).mul_(self.alpha)).sub_(h[step.rows])

        c.fit(gradient=bend)
        c.state["h"] = h - self.alpha * c.delta
