"""Server rules: they move the global model by the aggregate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.messages import DELTA, Aggregate, Parts
from fedray.local.program import Width, width_of
from fedray.optim import OptimizerFn

State = dict[str, Tensor]


class ServerRule:
    """The base of server rules, and the plain one: ``theta <- theta + lr * delta``.

    The D trained parameters alone are subject to the rule; where buffers travel they move by their averaged change.

    >>> class Signs(ServerRule):
    ...     def move(self, params, delta, total):
    ...         super().move(params, delta.sign(), total)
    >>> x, layout = torch.zeros(2), Layout.of(torch.nn.Linear(2, 1, bias=False))
    >>> server = Signs(lr=0.5)
    >>> server.start(x, layout, clients=10)
    >>> server.step(x, Aggregate({"delta": torch.tensor([3.0, -7.0])}, weight=10.0, count=10))
    >>> x
    tensor([ 0.5000, -0.5000])

    Args:
        lr: server learning rate eta > 0; 1 is FedAvg.
    """

    broadcasts: ClassVar[Mapping[str, Width]] = {}
    """The names of tensors that clients receive besides ``model``, with their lengths."""

    def __init__(self, lr: float = 1.0) -> None:
        if not lr > 0.0:
            raise ValueError(f"server_lr={lr}: it must be above 0")
        self.lr = lr
        self._spans: dict[str, slice] = {}

    def start(self, vector: Tensor, layout: Layout, clients: int) -> None:
        """Allocate state for the global vector ``[P]`` and a federation of ``clients`` clients."""
        self._spans = layout.spans

    def broadcast(self) -> Parts:
        """Return the tensors declared in ``broadcasts``."""
        return {}

    def step(self, vector: Tensor, total: Aggregate) -> None:
        """Move ``vector`` ``[P]`` in place."""
        for name, span in self._spans.items():
            if name == DELTA:
                self.move(vector[span], total.parts[name], total)
            elif name in total.parts:
                vector[span].add_(total.parts[name])

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        """Move the parameters ``[D]`` in place by the averaged ``delta`` ``[D]``."""
        params.add_(delta if self.lr == 1.0 else delta * self.lr)

    def state_dict(self) -> State:
        """Return the rule's tensors, for a checkpoint; numbers are tensors of shape ()."""
        return {}

    def state_names(self) -> list[str]:
        """Return the names in ``state_dict`` once the model has moved, sorted.

        A state with other names cannot be loaded.
        """
        return sorted(self.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``state_dict`` has returned, after ``start``."""


class KeepingServer(ServerRule):
    """The base of server rules that keep tensors from round to round; they begin at zero.

    >>> class Averaged(KeepingServer):
    ...     keeps = {"mean": "trained"}
    ...     def move(self, params, delta, total):
    ...         super().move(params, self.kept["mean"].mul_(0.5).add_(delta, alpha=0.5), total)
    >>> server, x = Averaged(), torch.zeros(2)
    >>> server.start(x, Layout.of(torch.nn.Linear(2, 1, bias=False)), clients=10)
    >>> server.step(x, Aggregate({"delta": torch.ones(2)}, weight=10.0, count=10))
    >>> server.state_dict()
    {'mean': tensor([0.5000, 0.5000])}

    Attributes:
        kept: the tensors, by name.
        clients: the clients of the federation.
    """

    keeps: ClassVar[Mapping[str, Width]] = {}
    """The names of the tensors with their lengths; those in ``broadcasts`` are sent."""

    def start(self, vector: Tensor, layout: Layout, clients: int) -> None:
        super().start(vector, layout, clients)
        self.clients = clients
        self.kept = {name: vector.new_zeros(width_of(width, layout)) for name, width in self.keeps.items()}

    def broadcast(self) -> Parts:
        return {name: self.kept[name] for name in self.broadcasts}

    def state_dict(self) -> State:
        return self.kept

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.kept.items():
            tensor.copy_(state[name])


class TorchServer(ServerRule):
    """A ``torch.optim`` optimizer on the pseudo-gradient ``-delta`` (Reddi et al., arXiv:2003.00295, section 2).

    Args:
        optimizer_fn: parameters to an optimizer.
    """

    def __init__(self, optimizer_fn: OptimizerFn) -> None:
        super().__init__()
        self._optimizer_fn = optimizer_fn

    def start(self, vector: Tensor, layout: Layout, clients: int) -> None:
        super().start(vector, layout, clients)
        self._params = vector[: layout.trained].clone()
        self._optimizer = self._optimizer_fn([self._params])

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        self._params.copy_(params)
        self._params.grad = -delta
        self._optimizer.step()
        params.copy_(self._params)

    def state_dict(self) -> State:
        return _state_of(self._optimizer)

    def state_names(self) -> list[str]:
        # An optimizer makes its state in its first step.
        one = torch.zeros(1, requires_grad=True)
        one.grad = torch.zeros(1)
        optimizer = self._optimizer_fn([one])
        optimizer.step()
        return sorted(_state_of(optimizer))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        full = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**full, "state": {0: dict(state)} if state else {}})


class AdaptiveServer(ServerRule):
    """The servers FEDADAGRAD, FEDYOGI and FEDADAM as published (Reddi et al., arXiv:2003.00295, Algorithm 2).

    ``m <- beta1 m + (1 - beta1) delta``; ``x <- x + lr * m / (sqrt(v) + tau)``, and by ``kind``

    * adagrad: ``v <- v + delta^2``
    * yogi: ``v <- v - (1 - beta2) delta^2 sign(v - delta^2)``
    * adam: ``v <- beta2 v + (1 - beta2) delta^2``

    There is no bias correction.  ``v`` starts at ``initial``; the paper asks for at least tau^2, its default here.

    Args:
        kind: one of the three.
        lr: eta > 0.
        beta1: in [0, 1).
        beta2: in [0, 1), without effect for adagrad.
        tau: degree of adaptivity, > 0.
        initial: first value of v, >= 0; ``None`` is tau^2.
    """

    def __init__(
        self,
        kind: Literal["adagrad", "yogi", "adam"],
        lr: float,
        beta1: float,
        beta2: float,
        tau: float,
        initial: float | None = None,
    ) -> None:
        super().__init__(lr)
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name}={value}: it must be at least 0 and below 1")
        if not tau > 0.0:
            raise ValueError(f"tau={tau}: it must be above 0")
        if initial is not None and not initial >= 0.0:
            raise ValueError(f"initial={initial}: it must be at least 0")
        self._second = {"adagrad": self._adagrad, "yogi": self._yogi, "adam": self._adam}[kind]
        self._beta1, self._beta2, self._tau = beta1, beta2, tau
        self._initial = tau**2 if initial is None else initial

    def start(self, vector: Tensor, layout: Layout, clients: int) -> None:
        super().start(vector, layout, clients)
        self._m = torch.zeros_like(vector[: layout.trained])
        self._v = torch.full_like(self._m, self._initial)

    def _adagrad(self, square: Tensor) -> None:
        self._v.add_(square)

    def _yogi(self, square: Tensor) -> None:
        self._v.sub_(torch.sign(self._v - square).mul_(square).mul_(1.0 - self._beta2))

    def _adam(self, square: Tensor) -> None:
        self._v.mul_(self._beta2).add_(square.mul_(1.0 - self._beta2))

    def move(self, params: Tensor, delta: Tensor, total: Aggregate) -> None:
        self._m.mul_(self._beta1).add_(delta * (1.0 - self._beta1))
        self._second(delta.square())
        params.add_((self._m * self.lr).div_(self._v.sqrt().add_(self._tau)))

    def state_dict(self) -> State:
        return {"m": self._m, "v": self._v}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._m.copy_(state["m"])
        self._v.copy_(state["v"])


def _state_of(optimizer: torch.optim.Optimizer) -> State:
    state = optimizer.state_dict()["state"].get(0, {})
    return {name: torch.as_tensor(value) for name, value in state.items() if value is not None}
