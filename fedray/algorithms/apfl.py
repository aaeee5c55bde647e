"""APFL: a client's model is a mixture of the global one and one of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step


@algorithms.register("apfl")
@dataclass(frozen=True)
class APFL(Algorithm):
    """APFL (Deng et al., arXiv:2003.13461, Algorithm 1): clients are evaluated with ``alpha v + (1 - alpha) w``.

    In each local step ``w <- w - lr g(w)``, as in FedAvg, and on the same batch, with ``m = alpha v + (1 - alpha) w``,
    ``v <- v - lr alpha g(m)`` and ``alpha <- alpha - lr <v - w, g(m)>``, cut to [0, 1]; all three from the values
    before the step.  v begins as the global model.  v and alpha take the paper's plain steps at the client learning
    rate, whatever the optimizer of w.  Clients are evaluated with the global model as w.  What is sent is FedAvg's,
    bitwise.

    >>> APFL(alpha=0.25, adaptive=False)
    APFL(weight='auto', alpha=0.25, adaptive=False)

    Args:
        alpha: the share of the client's own model, in [0, 1]; with ``adaptive`` its first value.
        adaptive: each client learns its alpha.
    """

    alpha: float = 0.5
    adaptive: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha}: it must be at least 0 and at most 1")

    def initial_state(self, c: Clients) -> Parts:
        """Return the global model and the first share."""
        return {"own": c.anchor, "alpha": c.anchor.new_full((1,), self.alpha)}

    def client(self, c: Clients) -> None:
        """Fit the global model, and with each step the client's own and the share."""
        own, share = c.state["own"], c.state["alpha"]

        def mixed(step: Step, grad: Tensor) -> None:
            w, v, a = step.params, own[step.rows], share[step.rows]
            slope = step.gradient(torch.lerp(w, v, a))
            # v and a may be views: both are read before one is written.
            moved = step.lr * a
            if self.adaptive:
                along = (v - w).mul_(slope).sum(dim=1, keepdim=True)
                share[step.rows] = (a - step.lr * along).clamp(0.0, 1.0)
            own[step.rows] = v.addcmul_(slope, moved, value=-1.0)

        c.fit(gradient=mixed)

    def personal(self, c: Clients) -> Tensor:
        """Return the mixtures with the global model, ``[C, D]``."""
        return torch.lerp(c.anchor.expand_as(c.params), c.state["own"], c.state["alpha"])
