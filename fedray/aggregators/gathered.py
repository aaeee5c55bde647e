"""Aggregators that see every update: the driver's memory is O(cohort x P)."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator, UpdateOutOfRange
from fedray.core.messages import DELTA, Aggregate, BlockUpdate, Floats, Ints, Parts
from fedray.core.now import Now

_CLIENT, _WEIGHT = "row.client", "row.weight"
_COLUMNS = 1 << 22


@dataclass(frozen=True, slots=True)
class Rows:
    """The updates of a round's accepted clients, in the order of the clients, whichever worker sent them.

    >>> import numpy as np
    >>> rows = Rows(np.array([4, 7]), np.array([10.0, 30.0]), {"delta": torch.tensor([[1.0, 0.0], [0.0, 1.0]])})
    >>> len(rows), rows.delta[rows.clients == 7]
    (2, tensor([[0., 1.]]))

    Args:
        clients: client indices ``[n]``, rising.
        weight: the clients' aggregation weights, float64 ``[n]``.
        parts: each float32 ``[n, k]``, as in a :class:`~fedray.core.messages.BlockUpdate`.
    """

    clients: Ints
    weight: Floats
    parts: Parts

    @property
    def delta(self) -> Tensor:
        """The changes of the trained parameters ``[n, D]``: what distances are measured on."""
        return self.parts[DELTA]

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.clients)

    @classmethod
    def of(cls, gathered: Accumulator) -> Rows:
        """Take the rows of an accumulator, which is empty afterwards."""
        client, weight = gathered.pop(_CLIENT), gathered.pop(_WEIGHT)
        order = client.argsort(stable=True)
        in_order = bool((order[1:] > order[:-1]).all())
        parts = {}
        for name in list(gathered):
            rows = gathered.pop(name)  # one part at a time is there twice
            parts[name] = rows if in_order else rows[order]
        return cls(client[order].cpu().numpy(), weight[order].cpu().numpy(), parts)


class Gathered(Aggregator):
    """Base of aggregators that see the rows of all accepted updates.

    An accumulator holds the rows themselves, so it costs 4 * P bytes for each client, on the workers and on the driver.

    >>> class Largest(Gathered):  # of all updates the longest
    ...     def aggregate(self, rows, now):
    ...         longest = rows.delta.norm(dim=1).argmax()
    ...         return {name: part[longest] for name, part in rows.parts.items()}
    >>> import numpy as np
    >>> rows = Rows(np.arange(2), np.ones(2), {"delta": torch.tensor([[1.0, 5.0], [3.0, 2.0]])})
    >>> Largest().aggregate(rows, Now(seed=1, round=1))
    {'delta': tensor([1., 5.])}
    """

    linear: ClassVar[bool] = False
    weighted: ClassVar[bool] = False

    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Return no rows."""
        return {
            _CLIENT: torch.zeros(0, dtype=torch.int64, device=device),
            _WEIGHT: torch.zeros(0, dtype=torch.float64, device=device),
            **{name: torch.zeros(0, width, device=device) for name, width in widths.items()},
        }

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Append a block's rows."""
        for name, rows in update.parts.items():
            bad = torch.nonzero(~torch.isfinite(rows).all(dim=1)).flatten().tolist()
            if bad:
                raise UpdateOutOfRange(bad, f"{name} is not finite", name)
        device = into[_CLIENT].device
        columns = {_CLIENT: torch.from_numpy(update.clients), _WEIGHT: torch.from_numpy(update.weight)}
        self.merge(into, {**update.parts, **{name: column.to(device) for name, column in columns.items()}})

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Append the other rows; ``aggregate`` sees them in the order of the clients."""
        into.update({name: torch.cat([into[name], other[name]]) for name in into})

    def finish(self, total: Accumulator, weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Aggregate the rows."""
        return Aggregate(self.aggregate(Rows.of(total), now), weight, count)

    @abstractmethod
    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Return each part ``[k]`` of the aggregate."""


class CoordinateWise(Gathered):
    """Base of aggregators that reduce each coordinate by itself, every client counting the same.

    >>> class Largest(CoordinateWise):
    ...     def reduce(self, rows):
    ...         return rows.amax(dim=0)
    >>> Largest().reduce(torch.tensor([[1.0, 5.0], [3.0, 2.0]]))
    tensor([3., 5.])
    """

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Reduce each part over the clients."""
        return {name: self.reduce(part) for name, part in rows.parts.items()}

    @abstractmethod
    def reduce(self, rows: Tensor) -> Tensor:
        """Reduce ``[n, k]`` to ``[k]``, with the same bits for every order of the rows."""


class Selected(Gathered):
    """Base of aggregators that give each client one share, for all parts: ``sum_i s_i x_i``.

    The sum is in float64, in the order of the clients; a client of share 0 is left out of it.

    >>> import numpy as np
    >>> class Shortest(Selected):
    ...     def shares(self, rows, now):
    ...         return torch.eye(len(rows), dtype=torch.float64)[rows.delta.norm(dim=1).argmin()]
    >>> rows = Rows(np.arange(2), np.ones(2), {"delta": torch.tensor([[1.0, 5.0], [3.0, 2.0]])})
    >>> Shortest().aggregate(rows, Now(seed=1, round=1))
    {'delta': tensor([3., 2.])}
    """

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Return the sum of the rows of each part, each times its client's share."""
        with one_thread():
            shares = self.shares(rows, now)
            now.shares.update(zip(rows.clients.tolist(), shares.tolist(), strict=True))
            return {name: combined(shares, part).to(part.dtype) for name, part in rows.parts.items()}

    @abstractmethod
    def shares(self, rows: Rows, now: Now) -> Tensor:
        """Return each client's share, float64 ``[n]``."""


def combined(shares: Tensor, rows: Tensor) -> Tensor:
    """Return ``shares @ rows``, float64 ``[k]``; rows of share 0 are left out.

    >>> combined(torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64), torch.tensor([[4.0], [8.0], [1e38]]))
    tensor([7.], dtype=torch.float64)

    Args:
        shares: float64 ``[n]``.
        rows: float32 ``[n, k]``.
    """
    used = shares.nonzero().flatten()
    if len(used) < len(rows):
        shares, rows = shares[used], rows[used]
    return torch.cat([shares @ piece.double() for piece in column_pieces(rows)])


def column_pieces(rows: Tensor) -> tuple[Tensor, ...]:
    """Split ``[n, k]`` into columns enough for 32 MiB in float64; how many depends on ``n`` alone."""
    pieces: tuple[Tensor, ...] = rows.split(max(1, _COLUMNS // max(1, len(rows))), dim=1)
    return pieces


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: how many there are shows in the bits of a sum, and drivers have different numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
