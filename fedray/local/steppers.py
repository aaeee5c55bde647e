"""The ways in which the clients of a block take their steps, each of which says itself what it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from fedray.core.errors import RunFailed
from fedray.core.hidden_state import HiddenState
from fedray.local.clients import Clients, Fits
from fedray.local.in_lanes import LanesStepper
from fedray.local.sequential import SequentialStepper
from fedray.local.sharded import ShardedStepper
from fedray.local.stacked import StackedStepper
from fedray.local.task import LocalTask


class Stepper(Fits, Protocol):
    """The contract of a way to step: it trains the local models of a block in place."""

    @staticmethod
    def fits(task: LocalTask, devices: Sequence[torch.device]) -> str | None:
        """Return the reason why it cannot train the clients of a task on these devices; None: it can."""
        ...

    @classmethod
    def of(cls, task: LocalTask, devices: Sequence[torch.device]) -> Stepper:
        """Make one for a task.

        Args:
            task: the local training problem.
            devices: of the worker; the first holds what goes in and comes out.
        """
        ...

    @property
    def hidden(self) -> HiddenState:
        """The hidden state of model, loss and optimizer function: what they remember elsewhere."""
        ...

    def locals(self, count: int) -> Tensor:
        """Return memory for the local models of ``count`` clients, ``[C, P]``, valid until the next call."""
        ...

    def alone(self, c: Clients) -> AbstractContextManager[None]:
        """Return the context of a block's program: nothing that code of the user's remembers leaves it."""
        ...


MakeStepper = Callable[[LocalTask, Sequence[torch.device]], Stepper]

STEPPERS: dict[str, type[Stepper]] = {
    "sharded": ShardedStepper,
    "lanes": LanesStepper,
    "stacked": StackedStepper,
    "sequential": SequentialStepper,
}
"""Every way, the one that is preferred where several fit first."""


def stepper_for(task: LocalTask, devices: Sequence[torch.device]) -> Stepper:
    """Make the first stepper that fits.

    Raises:
        RunFailed: none does, with the reason of each.
    """
    reasons = {}
    for name, kind in STEPPERS.items():
        reason = kind.fits(task, devices)
        if reason is None:
            return kind.of(task, devices)
        reasons[name] = reason
    raise RunFailed(f"no way to train the clients: {'; '.join(f'{name}: {why}' for name, why in reasons.items())}")
