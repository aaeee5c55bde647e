"""Clients and, behind them, one more that has the training examples of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Ints
from fedray.data.columns.base import ClientData
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.rows import CPU, Rows

POOL = "centralized"
"""The id of the last client, where clients have names."""


class Pooled(ClientData):
    """The clients of other data, with their held-out examples, and behind them one that has all their training rows.

    >>> from fedray import FederatedData
    >>> data = FederatedData.from_arrays(np.zeros((3, 2)), [0, 1, 1], clients=["north", "north", "south"])
    >>> pooled = Pooled(data)
    >>> pooled.sizes, pooled.client_id(2), pooled.label_counts()[2]
    (array([2, 1, 3]), 'centralized', array([1, 2]))
    >>> len(pooled), pooled.members
    (3, 2)

    Args:
        inner: the clients, all of whose rows can be read anywhere.
    """

    def __init__(self, inner: ClientData) -> None:
        count = len(inner)
        ids = None if inner.client_id(0) == "0" else [*map(inner.client_id, range(count)), POOL]
        super().__init__(
            np.append(inner.sizes, inner.sizes.sum()),
            inner.spec,
            holdout_sizes=np.append(inner.holdout_sizes, 0),
            test=inner.test,
            ids=ids,
        )
        self._inner, self.counted, self.encoding, self.marks = inner, inner.counted, inner.encoding, inner.marks
        self.notes = (*inner.notes, f"one client has all {int(self.sizes[-1]):,} training examples")
        self.warnings, self.augment, self.taken = inner.warnings, inner.augment, inner.taken
        self.asked = inner.asked

    @property
    def members(self) -> int:
        return len(self._inner)

    @property
    def unevaluated(self) -> int:
        return self._inner.unevaluated

    def rows(self, clients: Ints, device: torch.device = CPU) -> Rows:
        last = len(self._inner)
        if last not in clients:
            return self._inner.rows(clients, device)
        return _Joined(self._inner.rows(np.arange(last), device), self._inner.sizes, clients)

    def holdout(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        return self._inner.holdout(clients)

    @cached_property
    def test_sizes(self) -> Ints:
        return np.append(self._inner.test_sizes, 0)

    def own_test(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        return self._inner.own_test(clients)

    def order(self, client: int) -> Ints:
        return self._inner.order(client) if client < len(self._inner) else super().order(client)

    def label_counts(self) -> Ints:
        counts = self._inner.label_counts()
        return np.concatenate([counts, counts.sum(axis=0, keepdims=True)])

    def with_holdout(self, fraction: float, seed: int) -> ClientData:
        return Pooled(self._inner.with_holdout(fraction, seed))

    @property
    def folder(self) -> Path | None:
        return self._inner.folder

    def share(self, folder: Path) -> ClientData:
        shared = Pooled(self._inner.share(folder))
        shared.asked = self.asked
        return shared

    @property
    def nbytes(self) -> int:
        return self._inner.nbytes

    def to(self, device: torch.device) -> ClientData:
        return Pooled(self._inner.to(device))

    def probe(self) -> ClientData:
        return Pooled(self._inner.probe())

    def fingerprint(self) -> Mapping[str, str]:
        return self._inner.fingerprint()


class _Joined(Rows):
    """The rows of some clients, of which the last one of the data has those of all."""

    __slots__ = ("_ends", "_first", "_of_all", "_sizes")

    def __init__(self, of_all: Rows, sizes: Ints, clients: Ints) -> None:
        self._of_all, self._ends = of_all, np.cumsum(sizes)
        self._first = np.append(self._ends - sizes, 0)[clients][:, None]
        self._sizes = np.append(sizes, sizes.sum())[clients][:, None]

    def take(self, rows: Ints) -> tuple[Inputs, Tensor]:
        return self._of_all.pick(*self._places(rows))

    def lengths(self, rows: Ints) -> Ints | None:
        return self._of_all.picked_lengths(*self._places(rows))

    def _places(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return whose own the examples are, and which ones of theirs."""
        count = len(rows)
        places = self._first[:count] + np.minimum(rows, self._sizes[:count] - 1)
        owners = np.searchsorted(self._ends, places, side="right")
        return owners, places - np.append(0, self._ends)[owners]
