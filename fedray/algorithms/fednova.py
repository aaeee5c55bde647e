"""FedNova: normalised averaging of clients that did different amounts of local work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedray.algorithm import AlgorithmConfig, algorithms
from fedray.local.rules import LocalRule, LocalRun, Width
from fedray.messages import Aggregate
from fedray.server import ServerRule


class Normalised(LocalRule):
    """Sends ``delta / ||a||_1`` and ``||a||_1``, where ``a`` are the weights with which gradients entered ``delta``.

    ``||a||_1`` is the number of local steps tau for plain SGD, and for SGD with momentum rho
    ``A(tau) = (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho)`` (arXiv:2007.07481, section 4.1); with Nesterov's
    momentum, which the paper leaves out, ``A(tau + 1) - 1``.
    """

    sends: ClassVar[Mapping[str, Width]] = {"tau": "scalar"}

    def finish(self, run: LocalRun) -> None:
        """Normalise the parameters' part of the update."""
        steps = run.steps.clamp(min=1.0)
        rho = float(run.group.get("momentum", 0.0))
        ahead = 1.0 if run.group.get("nesterov") else 0.0
        reach = steps + ahead
        tau = (reach - rho * (1.0 - rho**reach) / (1.0 - rho)) / (1.0 - rho) - ahead if rho else steps
        run.delta[:, : run.params.shape[1]].div_(tau)
        run.parts["tau"] = tau


class EffectiveSteps(ServerRule):
    """``x <- x + lr * tau_eff * mean(delta / tau)`` with ``tau_eff`` the weighted mean of the clients' tau."""

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        super().move(params, delta * total.parts["tau"], total)


@algorithms.register("fednova")
@dataclass(frozen=True)
class FedNova(AlgorithmConfig):
    """FedNova (Wang et al., arXiv:2007.07481, equation 11, ``tau_eff = sum_i p_i tau_i``); equals FedAvg at equal
    local steps.

    Args:
        server_lr: server learning rate.
    """

    server_lr: float = 1.0

    def rule(self) -> LocalRule:
        """The normalised update."""
        return Normalised()

    def server(self) -> ServerRule:
        """The effective number of steps."""
        return EffectiveSteps(self.server_lr)
