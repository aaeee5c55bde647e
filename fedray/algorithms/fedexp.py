"""FedExP: the server's step grows with the disagreement of the clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedray.algorithms.base import AlgorithmConfig, algorithms, check_at_least_0
from fedray.algorithms.server import ServerRule
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.local.program import Width


class Extrapolating(ServerRule):
    """The server of FedExP: ``x <- x + max(1, mean(||d_i||^2) / (2 (||mean(d)||^2 + eps))) * mean(d)``.

    Args:
        eps: added to the squared norm of the mean.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self._eps = eps

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        norm = delta.double().square().sum()
        step = float(total.parts["square"].double() / (2.0 * (norm + self._eps)))
        super().move(params, delta * max(1.0, step), total)


@algorithms.register("fedexp")
@dataclass(frozen=True)
class FedExP(AlgorithmConfig):
    """FedExP (Jhunjhunwala et al., arXiv:2301.09604, equation 8), with plain means as in the paper.

    The paper reports the average of the last two iterates; here the model is the last one.

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), FedExP(eps=0.0).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=2)
    >>> server.step(x, Aggregate({"delta": torch.ones(1), "square": torch.tensor([5.0])}, weight=2.0, count=2))
    >>> x  # the clients moved by 3 and -1: 5 / 2 times their mean
    tensor([2.5000])

    Args:
        eps: added to the squared norm of the mean update, >= 0.
    """

    eps: float = 1e-3
    sends: ClassVar[Mapping[str, Width]] = {"square": "scalar"}
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(eps=self.eps)

    def server(self) -> ServerRule:
        """Make the rule that extrapolates."""
        return Extrapolating(self.eps)

    def client(self, c: Clients) -> None:
        """Fit, and send the squared norm of the update."""
        c.fit()
        c.send("square", c.delta.square().sum(dim=1))
