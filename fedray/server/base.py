"""The base of server optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedray.config.bounds import check_above_0
from fedray.config.registry import Registry, bind_part, made
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.optim import LRSchedule, OptimizerFn, lr_schedules


@dataclass(frozen=True)
class ServerOptimizer(ABC):
    """The base of server optimizers, for which minus the mean update is the gradient of the global model.

    That is FedOpt (Reddi et al., arXiv:2003.00295, Algorithm 1).  An optimizer holds its options alone; what it keeps
    from round to round are named tensors, which the engine hands it and saves in checkpoints.

    >>> @dataclass(frozen=True)
    ... class Signs(ServerOptimizer):
    ...     def step(self, params, delta, lr, state, layout):
    ...         params.add_(delta.sign(), alpha=lr)
    >>> x, layout = torch.zeros(2), Layout.of(torch.nn.Linear(2, 1, bias=False))
    >>> Signs(lr=0.5).step(x, torch.tensor([3.0, -7.0]), 0.5, {}, layout)
    >>> x
    tensor([ 0.5000, -0.5000])

    Args:
        lr: server learning rate eta > 0.
        lr_schedule: a schedule by which it changes with the rounds, as in ``local.lr_schedule``: its name, or
            ``{name: cosine, warmup: 5}``.
    """

    lr: float = 1.0
    lr_schedule: Any = field(default="constant", kw_only=True)

    def __post_init__(self) -> None:
        check_above_0(lr=self.lr)

    @property
    def schedule(self) -> LRSchedule:
        """The schedule of the learning rate; ConfigError if it is none."""
        return made(bind_part(lr_schedules, self.lr_schedule, "server.lr_schedule", "constant"))  # type: ignore[no-any-return]

    def start(self, params: Tensor, layout: Layout) -> Parts:
        """Return the tensors that are kept from round to round, before the first; none by default.

        Args:
            params: the parameters ``[S]`` before the first round.
            layout: of the model.
        """
        return {}

    @abstractmethod
    def step(
        self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout
    ) -> Mapping[str, float] | None:
        """Move the parameters in place.

        Args:
            params: float32 ``[S]``, the parameters that all clients share.
            delta: the mean update ``[S]``; to be left as it is.
            lr: the learning rate of the round.
            state: the tensors that ``start`` has returned, as the rounds before have changed them; changed in place.
            layout: of the model: ``params`` begin with the first of its entries.

        Returns:
            Numbers for the record of the round, which has them under the optimizer's name; or None.
        """


server_optimizers = Registry(
    "server optimizer", package="fedray.server", base=ServerOptimizer, such_as="fedray.server.Adam(lr=0.01)"
)


def torch_step(optimizer_fn: OptimizerFn, params: Tensor, delta: Tensor, state: Parts) -> None:
    """Take one step of a ``torch.optim`` optimizer on the gradient ``-delta``, in place.

    Args:
        optimizer_fn: makes it.
        params: the parameters ``[S]``.
        delta: the mean update ``[S]``.
        state: its state under torch's names, changed in place.
    """
    leaf = params.detach()
    leaf.grad = -delta
    optimizer = optimizer_fn([leaf])
    if state:
        optimizer.state[leaf] = dict(state)
    optimizer.step()
    state.update({name: torch.as_tensor(optimizer.state[leaf][name]) for name in state})
