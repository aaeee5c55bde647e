"""SCAFFOLD: control variates against client drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.algorithms.base import AlgorithmConfig, algorithms
from fedray.algorithms.server import ServerRule, State
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, Parts
from fedray.local.rules import LocalRule, LocalRun, Width


class ControlVariate(LocalRule):
    """The local rule of SCAFFOLD: steps along ``g_i(y) - c_i + c``.

    Afterwards ``c_i <- c_i - c + (x - y) / (K * lr)`` (option II).
    """

    state: ClassVar[Mapping[str, Width]] = {"control": "trained"}
    sends: ClassVar[Mapping[str, Width]] = {"control": "trained"}

    def gradient(self, run: LocalRun, grad: Tensor) -> None:
        """Correct the drift."""
        grad.add_(run.down["control"] - run.state["control"])

    def finish(self, run: LocalRun) -> None:
        """Write the new control variate, and send its change."""
        moved = run.delta[:, : run.params.shape[1]] / (-run.lr * run.steps.clamp(min=1.0))
        change = moved - run.down["control"]
        run.state["control"] = run.state["control"] + change
        run.parts["control"] = change


class ControlServer(ServerRule):
    """The server of SCAFFOLD: ``x <- x + lr * mean(delta)``, ``c <- c + |S| / N * mean(change of c_i)``."""

    broadcasts: ClassVar[Mapping[str, Width]] = {"control": "trained"}

    def start(self, vector: Tensor, layout: Layout, clients: int) -> None:
        super().start(vector, layout, clients)
        self._clients = clients
        self._control = torch.zeros_like(vector[: layout.trained])

    def broadcast(self) -> Parts:
        return {"control": self._control}

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        super().move(params, delta, total)
        self._control.add_(total.parts["control"] * (total.count / self._clients))

    def state_dict(self) -> State:
        return {"control": self._control}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._control.copy_(state["control"])


@algorithms.register("scaffold")
@dataclass(frozen=True)
class Scaffold(AlgorithmConfig):
    """SCAFFOLD (Karimireddy et al., arXiv:1910.06378, Algorithm 1, option II), with plain means as in the paper.

    Clients need the plain ``sgd`` optimizer for the paper's meaning of ``c_i``: with momentum or an adaptive
    optimizer the control variate is the average step divided by the learning rate.

    >>> import numpy as np
    >>> here, kept, sent = torch.zeros(1, 1), {"control": torch.tensor([[0.5]])}, {"control": torch.tensor([2.0])}
    >>> run = LocalRun(1, np.array([0]), torch.zeros(1), here, sent, kept, torch.ones(1, 1), here)
    >>> gradient = torch.zeros(1, 1)
    >>> Scaffold().rule().gradient(run, gradient)
    >>> gradient  # + c - c_i
    tensor([[1.5000]])

    Args:
        server_lr: global step size.
    """

    server_lr: float = 1.0
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

    def rule(self) -> LocalRule:
        """Make the clients' control variate."""
        return ControlVariate()

    def server(self) -> ServerRule:
        """Make the server's control variate."""
        return ControlServer(self.server_lr)
