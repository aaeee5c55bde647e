"""The rows of single clients on the server: the last ones that they sent, and those that it sends to one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import SENT, Ints, Parts
from fedray.rundir.client_state import ClientStore
from fedray.rundir.state_rows import StateRows

_AT_ONCE = 64


@dataclass(frozen=True)
class PerClient:
    """A part of a broadcast that is another one for each client: ``c.down[name]`` is ``[C, k]``.

    It is asked for the clients of a round alone, and for those that are evaluated; their rows pass through files, a few
    in memory at once.

    >>> mine = PerClient(2, lambda client: torch.full((2,), float(client)))
    >>> mine.row(3)
    tensor([3., 3.])

    Args:
        width: k.
        row: the index of a client to its row ``[k]``, float32; the same at each call within a round.
    """

    width: int
    row: Callable[[int], Tensor]


class SentRows(ABC):
    """The last parts that each client sent by ``c.send(name, value, apart=True)``, in the rounds before."""

    @property
    @abstractmethod
    def clients(self) -> Ints:
        """Those who have sent, ``[n]``, ascending."""

    @abstractmethod
    def read(self, name: str, clients: Ints) -> Tensor:
        """Return the rows ``[c, k]`` of some of :attr:`clients`."""

    def pieces(self, name: str) -> Iterator[tuple[Ints, Tensor]]:
        """Go through the rows of all :attr:`clients` in their order, a few at once."""
        everyone = self.clients
        for start in range(0, len(everyone), _AT_ONCE):
            some = everyone[start : start + _AT_ONCE]
            yield some, self.read(name, some)


@dataclass(frozen=True)
class HeldRows(SentRows):
    """Rows in memory, as for a trial.

    >>> rows = HeldRows(np.array([2, 5]), {"model": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    >>> rows.read("model", np.array([5]))
    tensor([[3., 4.]])
    >>> [(clients.tolist(), len(part)) for clients, part in rows.pieces("model")]
    [([2, 5], 2)]

    Args:
        who: the clients who have sent, ``[n]``, ascending.
        parts: their rows by name, each ``[n, k]``.
    """

    who: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    parts: Parts = field(default_factory=dict)

    @property
    def clients(self) -> Ints:
        return self.who

    def read(self, name: str, clients: Ints) -> Tensor:
        return self.parts[name][torch.from_numpy(np.searchsorted(self.who, clients))]


class StoredRows(SentRows):
    """Rows of the client store.

    Args:
        store: the store.
        device: the device of what is read.
    """

    def __init__(self, store: ClientStore, device: torch.device) -> None:
        self._store, self._device = store, device
        self._rows = StateRows(store.folder, store.fields, store.memory)

    @property
    def clients(self) -> Ints:
        return self._store.rows.clients

    def read(self, name: str, clients: Ints) -> Tensor:
        found, _ = self._rows.read(clients, self._store.of(clients), self._device)
        return found[SENT + name]
