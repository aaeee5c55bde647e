"""FedExP: the server's step grows with the disagreement of the clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.server import Server


@algorithms.register("fedexp")
@dataclass(frozen=True)
class FedExP(Algorithm):
    """FedExP (Jhunjhunwala et al., arXiv:2301.09604, equation 8), with plain means as in the paper.

    ``x <- x + eta * mean(d_i)``, ``eta = max(1, mean(||d_i||^2) / (2 (||mean(d_i)||^2 + eps)))``.  The paper reports
    the average of the last two iterates; here the model is the last one.

    >>> import torch
    >>> from fedray.parts import Layout
    >>> x = torch.zeros(1)
    >>> s = Server(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=2)
    >>> FedExP(eps=0.0).step(s, Aggregate({"delta": torch.ones(1), "square": torch.tensor([5.0])}, weight=2.0, count=2))
    {'step': 2.5}
    >>> x  # the clients moved by 3 and -1: 5 / 2 times their mean
    tensor([2.5000])

    Args:
        eps: added to the squared norm of the mean update, >= 0.
    """

    eps: float = 1e-3
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True
    uses_server: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(eps=self.eps)

    def client(self, c: Clients) -> None:
        """Fit, and send the squared norm of the update."""
        c.fit()
        c.send("square", c.delta.square().sum(dim=1))

    def step(self, s: Server, total: Aggregate) -> dict[str, float]:
        """Move the model by the mean, the further the more the clients disagree; tell how far."""
        norm = total["delta"].double().square().sum()
        step = max(1.0, float(total["square"].double() / (2.0 * (norm + self.eps))))
        s.params.add_(total["delta"] * step)
        return {"step": step}
