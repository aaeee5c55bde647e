"""Attacks: what Byzantine clients send in the place of their updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from fedray.config.registry import Registry


@dataclass(frozen=True)
class Attack(ABC):
    """The base of attacks: some clients train as all do, and then send another ``delta`` than they found.

    What else a client sends, such as statistics or control variates, it sends as it is.  It happens after the client
    halves of the transforms: an attacker clips nothing.

    >>> import numpy as np, torch
    >>> @dataclass(frozen=True)
    ... class Silence(Attack):
    ...     def forge(self, delta, lying, draws):
    ...         return torch.zeros_like(delta[lying])
    >>> Silence(clients=["a"]).forge(torch.ones(2, 3), torch.tensor([1]), [np.random.default_rng(0)])
    tensor([[0., 0., 0.]])

    Args:
        clients: the Byzantine ones: a share of all clients, from 0 to 1.0, drawn once for the run, named by (seed,
            attack), or a list of client ids.

    Attributes:
        gathers: True if attackers look at the updates of the whole cohort: it happens where these are gathered, and
            needs an aggregator that does so.
    """

    clients: Any = 0.2

    gathers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.clients, str | bytes) or not isinstance(self.clients, float | int | Sequence):
            raise ValueError(f"clients={self.clients!r}: it must be {_ALLOWED}")
        if isinstance(self.clients, Sequence):
            if not all(isinstance(name, str) for name in self.clients):
                raise ValueError(f"clients={list(self.clients)}: ids are texts; put numbers in quotes")
        elif not 0.0 <= self.clients <= 1.0 or (self.clients and not isinstance(self.clients, float)):
            raise ValueError(f"clients={self.clients}: it must be {_ALLOWED}")

    @abstractmethod
    def forge(self, delta: Tensor, lying: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        """Return what attackers send, ``[a, D]``.

        Args:
            delta: the updates that they know, ``[n, D]``: their own, or all of the cohort if the attack ``gathers``.
            lying: the positions of their own among these, ``[a]``.
            draws: a generator for each of them, named by (seed, attack, round, client).
        """


_ALLOWED = "a share of the clients from 0 to 1.0, such as 0.2, or a list of client ids"

attacks = Registry("attack", package="fedray.attacks", base=Attack, such_as="fedray.SignFlip(clients=0.2)")
