"""FedProx: a proximal term in the local objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.local.clients import Clients
from fedray.local.step import Step


@algorithms.register("fedprox")
@dataclass(frozen=True)
class FedProx(Algorithm):
    """FedProx (Li et al., arXiv:1812.06127, Algorithm 2): local objective ``F_k(w) + mu / 2 * ||w - w_t||^2``.

    The paper's clients may do inexact, differing amounts of work; here the work is ``local.epochs``, as in FedAvg.
    Nine of ten clients may draw it, as there: ``{name: uniform, low: 1, high: 20, clients: 0.9}``.

    >>> FedProx(mu=0.1).mu
    0.1

    Args:
        mu: strength of the proximal term, >= 0; 0 is FedAvg, bitwise.
    """

    mu: float = 0.01

    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(mu=self.mu)

    def client(self, c: Clients) -> None:
        """Pull the clients' parameters towards the global ones: ``mu * (w - w_t)`` is added to the gradient."""

        def pull(step: Step, grad: Tensor) -> None:
            grad.add_((step.params - step.anchor).mul_(self.mu))

        c.fit(gradient=pull if self.mu else None)
