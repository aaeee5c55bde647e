"""SCAFFOLD: control variates against client drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import AlgorithmConfig, algorithms
from fedray.algorithms.server import KeepingServer, ServerRule
from fedray.core.messages import Aggregate
from fedray.local.clients import Clients, Step
from fedray.local.program import Width


class ControlServer(KeepingServer):
    """The server of SCAFFOLD: ``x <- x + lr * mean(delta)``, ``c <- c + |S| / N * mean(change of c_i)``."""

    broadcasts: ClassVar[Mapping[str, Width]] = {"control": "trained"}
    keeps = broadcasts

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        super().move(params, delta, total)
        self.kept["control"].add_(total.parts["control"] * (total.count / self.clients))


@algorithms.register("scaffold")
@dataclass(frozen=True)
class Scaffold(AlgorithmConfig):
    """SCAFFOLD (Karimireddy et al., arXiv:1910.06378, Algorithm 1, option II), with plain means as in the paper.

    Clients need the plain ``sgd`` optimizer for the paper's meaning of ``c_i``: with momentum or an adaptive
    optimizer the control variate is the average step divided by the learning rate.

    >>> dict(Scaffold().state), dict(Scaffold().sends)  # c_i, and its change
    ({'control': 'trained'}, {'control': 'trained'})

    Args:
        server_lr: global step size.
    """

    server_lr: float = 1.0
    state: ClassVar[Mapping[str, Width]] = {"control": "trained"}
    sends: ClassVar[Mapping[str, Width]] = {"control": "trained"}
    default_weight: ClassVar[Literal["examples", "uniform"]] = "uniform"
    uniform_only: ClassVar[bool] = True

    def doubts(self, optimizer: torch.optim.Optimizer) -> Iterator[str]:
        """Say so if the optimizer is not plain sgd."""
        momentum = optimizer.param_groups[0].get("momentum", 0)
        if not isinstance(optimizer, torch.optim.SGD) or momentum:
            what = f"momentum {momentum:g}" if isinstance(optimizer, torch.optim.SGD) else type(optimizer).__name__
            yield (
                f"local.optimizer: scaffold's control variates are mean gradients with plain sgd alone; with {what} "
                "they are mean steps divided by the learning rate, which its paper does not treat"
            )

    def client(self, c: Clients) -> None:
        """Step along ``g_i(y) - c_i + c``, and then set ``c_i <- c_i - c + (x - y) / (K * lr)`` (option II)."""

        def correct(step: Step, grad: Tensor) -> None:
            grad.add_(c.down["control"] - c.state["control"][step.rows])

        trace = c.fit(gradient=correct)
        change = c.delta / (-trace.lr * trace.steps.clamp(min=1.0)) - c.down["control"]
        c.state["control"] = c.state["control"] + change
        c.send("control", change)

    def server(self) -> ServerRule:
        """Make the server's control variate."""
        return ControlServer(self.server_lr)
