"""FedNova: normalised averaging of clients that did different amounts of local work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients
from fedray.server import Server


@algorithms.register("fednova")
@dataclass(frozen=True)
class FedNova(Algorithm):
    """FedNova (Wang et al., arXiv:2007.07481, equation 11, ``tau_eff = sum_i p_i tau_i``).

    ``x <- x + lr * tau_eff * mean(d_i / tau_i)``, ``tau_eff`` the weighted mean of all tau.  It equals FedAvg at equal
    local steps.

    >>> from fedray.parts import Layout
    >>> x = torch.zeros(1)
    >>> s = Server(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=2)
    >>> per_step, tau = torch.tensor([0.5]), torch.tensor([4.0])  # means over clients with 1 and 7 steps
    >>> FedNova().step(s, Aggregate({"delta": per_step, "tau": tau}, weight=2.0, count=2))
    >>> x
    tensor([2.])

    Args:
        server_lr: another word for ``server.lr``.
    """

    server_lr: float | None = None

    def needs(self, optimizer: torch.optim.Optimizer, epochs: Any) -> str | None:
        """Return words if the optimizer is not sgd."""
        if isinstance(optimizer, torch.optim.SGD):
            return None
        return (
            f"local.optimizer: fednova divides by the weight of a client's gradients, which it knows of sgd; the "
            f"steps of {type(optimizer).__name__} are counted as plain ones"
        )

    def client(self, c: Clients) -> None:
        """Send ``delta / ||a||_1`` and ``||a||_1``, where ``a`` are the gradients' weights in ``delta``.

        ``||a||_1`` is the number of local steps tau for plain SGD, and for SGD with momentum rho
        ``A(tau) = (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho)`` (arXiv:2007.07481, section 4.1), which is
        ``sum_{j < tau} sum_{k <= j} rho^k``, so that ``A(tau) = tau (tau + 1) / 2`` at rho = 1; with Nesterov's
        momentum, which the paper leaves out, ``A(tau + 1) - 1``.
        """
        trace = c.fit()
        steps = trace.steps.clamp(min=1.0).cpu().long()
        rho, ahead = float(trace.group.get("momentum", 0.0)), int(bool(trace.group.get("nesterov")))
        # As sums: the quotients have no value at rho = 1, and in float32 few digits near it.
        weights = np.cumsum(np.cumsum(rho ** np.arange(int(steps.max()) + ahead)))
        tau = torch.from_numpy(weights)[steps + (ahead - 1)].sub_(ahead).to(trace.steps)
        c.send("delta", c.delta / tau)
        c.send("tau", tau)

    def step(self, s: Server, total: Aggregate) -> None:
        """Move the model by the mean of a step, times the effective number of steps."""
        s.move(total["delta"] * total["tau"])
