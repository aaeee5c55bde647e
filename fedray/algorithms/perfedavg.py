"""Per-FedAvg: a global model from which one step suits each client."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.optim import SGD


@algorithms.register("perfedavg")
@dataclass(frozen=True)
class PerFedAvg(Algorithm):
    """Per-FedAvg (Fallah et al., arXiv:2002.07948, Algorithm 1): clients descend on ``f(w - alpha g(w))``.

    A step follows ``g(w - alpha g(w; b); b')`` on two batches b and b' of as many examples: first order, the paper's
    FO.  ``exact`` multiplies it by ``I - alpha H(w; b)``, differentiated through the inner step, where the paper has H
    on a third batch.  A client is evaluated with the global model after one step of length ``alpha`` on one batch of
    its training data.

    With ``alpha = 0`` and full batches what is sent is FedAvg's.

    >>> PerFedAvg(alpha=0.05, exact=True).exact
    True

    Args:
        alpha: length of the inner step, >= 0.
        exact: with the Hessian, at about twice the time.
    """

    alpha: float = 0.01
    exact: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(alpha=self.alpha)

    def client(self, c: Clients) -> None:
        """Fit along the gradient after the inner step."""

        def adapted(step: Step, grad: Tensor) -> None:
            if not self.exact:
                grad.copy_(step.gradient(step.params - self.alpha * grad, step.fresh_batch()))
                return
            with torch.enable_grad():
                there = step.params - self.alpha * step.gradient(graph=True)
            outer = step.gradient(there.detach(), step.fresh_batch())
            grad.copy_(torch.autograd.grad(there, step.params, outer)[0])

        c.fit(gradient=adapted)

    def personal(self, c: Clients) -> Tensor:
        """Return the global model after one step for each client, ``[C, P]``."""
        if self.alpha:
            c.fit(steps=1, optimizer=SGD(self.alpha))
        return c.model
