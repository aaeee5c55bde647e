"""Aggregators that see every update: rows stay with the workers, and the driver reads as much as the rule asks for."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator, Aggregator, UpdateOutOfRange
from fedray.aggregators.stored import Reduction, StoredRows
from fedray.core.messages import DELTA, Aggregate, BlockUpdate, Floats, Ints, Parts
from fedray.core.now import Now

_CLIENT, _WEIGHT = "row.client", "row.weight"
COLUMNS = 1 << 22
"""The values that are read at once."""

_MOST_RANGES, _LEAST_VALUES = 16, 1 << 19


@dataclass(frozen=True, slots=True)
class Rows:
    """The updates of a round's accepted clients, in the order of the clients, whichever worker sent them.

    >>> import numpy as np
    >>> rows = Rows(np.array([4, 7]), np.array([10.0, 30.0]), {"delta": torch.tensor([[1.0, 0.0], [0.0, 1.0]])})
    >>> len(rows), rows.delta[rows.clients == 7]
    (2, tensor([[0., 1.]]))
    >>> [piece.tolist() for piece in rows.pieces("delta")]
    [[[1.0, 0.0], [0.0, 1.0]]]

    Args:
        clients: client indices ``[n]``, rising.
        weight: the clients' aggregation weights, float64 ``[n]``.
        parts: each float32 ``[n, k]``, as in a :class:`~fedray.core.messages.BlockUpdate`.  They may lie with the
            workers: then a whole part is brought here, O(n k) of memory, when it is asked for, and not by ``pieces``.
    """

    clients: Ints
    weight: Floats
    parts: Mapping[str, Tensor]

    @property
    def delta(self) -> Tensor:
        """The changes of the trained parameters ``[n, D]``: what distances are measured on."""
        return self.parts[DELTA]

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.clients)

    def pieces(self, part: str, rows: Tensor | None = None, columns: tuple[int, int] | None = None) -> Iterator[Tensor]:
        """Yield the columns of a part, from left to right, in pieces ``[n, k']`` of 4 million values at most.

        How wide they are depends on the number of rows alone.

        Args:
            part: its name.
            rows: the positions of those that are wanted, int64; by default all.
            columns: the first of those that are wanted, and the one after the last; by default all.
        """
        width, step = self.width(part), _step(len(self) if rows is None else len(rows))
        first, last = (0, width) if columns is None else columns
        # One piece that holds them all is kept: a rule that goes over the rows many times reads it once.
        if isinstance(self.parts, StoredRows) and (width > step or rows is not None or last - first < width):
            chosen = None if rows is None else rows.cpu().numpy()
            for start in range(first, max(first + 1, last), step):
                yield self.parts.columns(part, start, min(start + step, last), chosen)
        else:
            whole = self.parts[part] if rows is None else self.parts[part][rows]
            yield from column_pieces(whole[:, first:last])

    def reduced(self, part: str, reduce: Reduction) -> list[Tensor]:
        """Return what a function makes of each range of columns of a part, from left to right.

        The workers of the driver's node that hold the rows do it, each a range at a time, where they hold all of them;
        else this process does.  The ranges depend on the number of rows and columns alone, and each is reduced on one
        thread: the same bits, whoever does it.

        >>> import numpy as np
        >>> rows = Rows(np.arange(2), np.ones(2), {"delta": torch.tensor([[1.0, 5.0], [3.0, 2.0]])})
        >>> rows.reduced("delta", lambda pieces: sum(piece.square().sum(dim=1) for piece in pieces))
        [tensor([26., 13.])]

        Args:
            part: its name.
            reduce: the function of the columns of a range, which are given from left to right in pieces ``[n, k']``;
                what it returns is small beside them.
        """
        ranges = column_ranges(len(self), self.width(part))
        stored = self.parts if isinstance(self.parts, StoredRows) else None
        done = stored.shared_out(part, ranges, reduce) if stored else [None] * len(ranges)
        return [
            self.on_range(part, columns, reduce) if found is None else found
            for columns, found in zip(ranges, done, strict=True)
        ]

    def on_range(self, part: str, columns: tuple[int, int], reduce: Reduction) -> Tensor:
        """Return what a function makes of one range of columns of a part, on one thread."""
        with one_thread():
            return reduce(self.pieces(part, columns=columns))

    def combined(self, shares: Tensor, part: str) -> Tensor:
        """Return ``shares @ rows`` of a part, float64 ``[k]``, as :func:`combined` does; it reads no row of share 0."""
        used = shares.nonzero().flatten()
        if len(used) == len(self):
            return _weighed(shares, self.pieces(part), self.width(part))
        return _weighed(shares[used], self.pieces(part, used), self.width(part))

    def width(self, part: str) -> int:
        """Return the length of a part."""
        return self.parts.widths[part] if isinstance(self.parts, StoredRows) else self.parts[part].shape[1]

    @classmethod
    def of(cls, gathered: Mapping[str, Tensor]) -> Rows:
        """Take the rows of an accumulator: what is in memory is taken out of it, what is stored stays where it is."""
        if isinstance(gathered, StoredRows):
            return cls(gathered.clients, gathered.weight, gathered)
        gathered = cast(Accumulator, gathered)
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

    An accumulator holds the rows themselves, 4 * P bytes for each client.  They stay with the workers that trained them
    until the rule reads them: ``rows.pieces`` a few columns at a time, ``rows.parts`` all of a part at once, which the
    driver must then have room for.

    >>> class Largest(Gathered):  # of all updates the longest
    ...     def aggregate(self, rows, now):
    ...         longest = rows.delta.norm(dim=1).argmax()
    ...         return {name: part[longest] for name, part in rows.parts.items()}
    >>> import numpy as np
    >>> rows = Rows(np.arange(2), np.ones(2), {"delta": torch.tensor([[1.0, 5.0], [3.0, 2.0]])})
    >>> Largest().aggregate(rows, Now(seed=1, round=1))
    {'delta': tensor([1., 5.])}

    Attributes:
        by_columns: True if it reads no more than a few columns at a time: the driver's memory is then O(P).
    """

    linear: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    by_columns: ClassVar[bool] = False

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

    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Aggregate the rows."""
        return Aggregate(self.aggregate(Rows.of(total), now), weight, count)

    @abstractmethod
    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Return each part ``[k]`` of the aggregate."""


def by_columns(aggregator: Aggregator) -> bool:
    """Tell if an aggregator reads no more than a few columns of rows at a time."""
    return isinstance(aggregator, Gathered) and aggregator.by_columns


class CoordinateWise(Gathered):
    """Base of aggregators that reduce each coordinate by itself, every client counting the same.

    >>> class Largest(CoordinateWise):
    ...     def reduce(self, rows):
    ...         return rows.amax(dim=0)
    >>> Largest().reduce(torch.tensor([[1.0, 5.0], [3.0, 2.0]]))
    tensor([3., 5.])
    """

    by_columns: ClassVar[bool] = True

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Reduce each part over the clients, a few columns at a time."""
        return {name: joined(rows.reduced(name, self._range), rows.width(name)) for name in rows.parts}

    def _range(self, pieces: Iterable[Tensor]) -> Tensor:
        return torch.cat([self.reduce(piece) for piece in pieces])

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
            return {name: rows.combined(shares, name).float() for name in rows.parts}

    @abstractmethod
    def shares(self, rows: Rows, now: Now) -> Tensor:
        """Return each client's share, float64 ``[n]``."""


def taken(gathered: Accumulator) -> tuple[Ints, Floats, Parts]:
    """Take the rows out of an accumulator as they were added: clients, weights and parts; it is empty afterwards."""
    rows = dict(gathered)
    gathered.update({name: part.new_empty(0, *part.shape[1:]) for name, part in rows.items()})
    return rows.pop(_CLIENT).cpu().numpy(), rows.pop(_WEIGHT).cpu().numpy(), rows


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
    return _weighed(shares, column_pieces(rows), rows.shape[1])


def ordered(rows: Tensor) -> Tensor:
    """Return ``[n, k]`` with each column sorted, rising; no zero of it has a sign.

    >>> ordered(torch.tensor([[3.0, -0.0], [1.0, 0.0]]))
    tensor([[1., 0.],
            [3., 0.]])
    """
    if rows.device.type != "cpu":
        return (rows + 0.0).sort(dim=0).values
    # Without the indices that torch's sort makes, and 19 times as fast.  Equal zeros would come in any order.
    values = rows.numpy() + np.float32(0.0)
    values.sort(axis=0)
    return torch.from_numpy(values)


def _weighed(shares: Tensor, pieces: Iterable[Tensor], width: int) -> Tensor:
    return joined((shares @ piece.double() for piece in pieces), width)


def joined(pieces: Iterable[Tensor], width: int) -> Tensor:
    """Return pieces ``[k']`` as one ``[width]``.

    Each goes to its place at once: small memory kept between large that is free would keep that from being used again.
    """
    whole, start = torch.empty(0), 0
    for piece in pieces:
        if not start:
            whole = piece.new_empty(width)
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole


def column_pieces(rows: Tensor) -> tuple[Tensor, ...]:
    """Split ``[n, k]`` into columns enough for 32 MiB in float64; how many depends on ``n`` alone."""
    pieces: tuple[Tensor, ...] = rows.split(_step(len(rows)), dim=1)
    return pieces


def column_ranges(count: int, width: int) -> Sequence[tuple[int, int]]:
    """Cut columns into ranges for workers: 16 at most, none so small that handing it out would cost more than doing it.

    No range is narrower than there are rows, so that matrices ``[n, n]`` of all ranges are no more than the rows.

    >>> column_ranges(10, 5_000), len(column_ranges(500, 4_810)), len(column_ranges(200, 500_000))
    ([(0, 5000)], 4, 16)
    """
    many = max(1, min(_MOST_RANGES, count * width // _LEAST_VALUES, width // max(1, count)))
    edges = [number * width // many for number in range(many + 1)]
    return list(pairwise(edges))


def _step(count: int) -> int:
    """Return the columns of a piece of so many rows."""
    return max(1, COLUMNS // max(1, count))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: how many there are shows in the bits of a sum, and drivers have different numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
