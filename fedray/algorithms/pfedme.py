"""pFedMe: personal models by Moreau envelopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0
from fedray.core.messages import Aggregate, Parts
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.server import Server


@algorithms.register("pfedme")
@dataclass(frozen=True)
class PFedMe(Algorithm):
    """pFedMe (T. Dinh et al., arXiv:2006.08848, Algorithm 1), with plain means as in the paper.

    On each batch ``inner_steps`` steps ``theta <- theta - inner_lr (g(theta) + lam (theta - w))`` from ``theta = w``
    lead near the least of ``f(theta) + lam / 2 ||theta - w||^2``, and then ``w <- w - lr lam (w - theta)``; the server
    moves to ``(1 - beta) x + beta mean(w_i)``.  A client is evaluated with the theta of its last batch.  The paper's
    clients all train in every round and some are heard; here those of the cohort train.  The step of w is the
    configured optimizer's along ``lam (w - theta)``, where the paper has plain sgd.

    With ``inner_steps = 1`` and ``inner_lr = 1 / lam`` what is sent is FedAvg's with a plain mean.

    >>> PFedMe(lam=5.0).lam
    5.0

    Args:
        lam: the pull of w on theta, > 0; with plain sgd ``lr lam`` is to be below 2.
        inner_steps: steps of theta on a batch, at least 1 (the paper's K).
        inner_lr: their learning rate, > 0.
        beta: step of the server, > 0.
    """

    lam: float = 15.0
    inner_steps: int = 5
    inner_lr: float = 0.01
    beta: float = 1.0
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"

    def __post_init__(self) -> None:
        check_above_0(lam=self.lam, inner_steps=self.inner_steps, inner_lr=self.inner_lr, beta=self.beta)
        super().__post_init__()

    def initial_state(self, c: Clients) -> Parts:
        """Return the global model."""
        return {"theta": c.anchor}

    def client(self, c: Clients) -> None:
        """Fit along the gradient of the envelope, and keep where theta was last."""

        def envelope(step: Step, grad: Tensor) -> None:
            w = theta = step.params
            for inner in range(self.inner_steps):
                slope = step.gradient(theta) if inner else grad
                theta = theta - self.inner_lr * (slope + self.lam * (theta - w))
            c.state["theta"][step.rows] = theta
            grad.copy_(self.lam * (w - theta))

        c.fit(gradient=envelope)

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model ``beta`` of the way."""
        s.move(total["delta"] * self.beta)

    def personal(self, c: Clients) -> Tensor:
        """Return theta, ``[C, D]``."""
        return c.state["theta"]
