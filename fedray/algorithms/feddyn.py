"""FedDyn: a dynamic regularizer for each client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.server import Server


@algorithms.register("feddyn")
@dataclass(frozen=True)
class FedDyn(Algorithm):
    """FedDyn (Acar et al., arXiv:2111.04263, Algorithm 1), with plain means as in the paper.

    A client steps along ``g(w) - h_i + alpha (w - x)`` and then sets ``h_i <- h_i - alpha (w_i - x)``; h_i starts at 0.
    The server sets ``h <- h - alpha |S| / N * mean(d_i)`` and ``x <- x + mean(d_i) - h / alpha``.  The paper's clients
    solve their local problem; here they do the configured work.  N is the whole federation.

    >>> from fedray.parts import Layout
    >>> x, dyn = torch.zeros(1), FedDyn(alpha=0.5)
    >>> s = Server(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=4)
    >>> s.state = dyn.start(s)
    >>> dyn.step(s, Aggregate({"delta": torch.ones(1)}, weight=2.0, count=2))  # 2 of 4 clients
    >>> x
    tensor([1.5000])

    Args:
        alpha: strength of the regularizer, > 0.
    """

    alpha: float = 0.1
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True
    uses_server: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_above_0(alpha=self.alpha)
        super().__post_init__()

    def initial_state(self, c: Clients) -> Parts:
        """Return linear terms of 0."""
        return {"h": torch.zeros_like(c.shared(c.anchor))}

    def client(self, c: Clients) -> None:
        """Fit with the linear and the quadratic term, and move the linear one."""
        h = c.state["h"]

        def bend(step: Step, grad: Tensor) -> None:
            bent = c.shared(grad)
            if step.number:  # before, nobody has moved
                bent.add_((c.shared(step.params) - c.shared(step.anchor)).mul_(self.alpha))
            bent.sub_(h[step.rows])

        c.fit(gradient=bend)
        h.sub_(c.delta.mul_(self.alpha))

    def start(self, s: Server) -> Parts:
        """Keep h, 0 at first."""
        return {"h": torch.zeros_like(s.params)}

    def step(self, s: Server, total: Aggregate) -> None:
        """Move h, and the model by both."""
        h = s.state["h"].sub_(total["delta"], alpha=self.alpha * total.count / s.clients)
        s.params.add_(total["delta"] - h / self.alpha)
