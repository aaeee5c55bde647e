"""Ditto: beside the global model each client trains one of its own, held near the global one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step


@algorithms.register("ditto")
@dataclass(frozen=True)
class Ditto(Algorithm):
    """Ditto (Li et al., arXiv:2012.04221, Algorithm 1) with FedAvg for the global model.

    Beside its part in FedAvg a client takes steps ``v <- v - lr (g(v) + lam (v - x))`` of a model v of its own, with x
    the global model that it received; v is kept from round to round, begins as the global model, and is what the client
    is evaluated with.  Both are trained with the configured optimizer, where the paper has plain sgd.  What is sent is
    FedAvg's, bitwise.

    >>> Ditto(lam=0.5)
    Ditto(weight='auto', lam=0.5, epochs=None)

    Args:
        lam: the pull towards the global model, >= 0; 0 is training alone.
        epochs: passes over the local data for v in a round; default: the configured work.
    """

    lam: float = 1.0
    epochs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(lam=self.lam, epochs=self.epochs or 0)

    def initial_state(self, c: Clients) -> Parts:
        """Return the global model, with its buffers."""
        return {"own": c.down["model"]}

    def client(self, c: Clients) -> None:
        """Fit the global model, then the client's own."""

        def pull(step: Step, grad: Tensor) -> None:
            grad.add_(step.params - step.anchor, alpha=self.lam)

        c.fit()
        c.fit(c.state["own"], epochs=self.epochs, gradient=pull)

    def personal(self, c: Clients) -> Tensor:
        """Return the clients' own models, ``[C, P]``."""
        return c.state["own"]
