"""Rows of updates that stay where they were folded: read column by column, or reduced by the workers that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import Floats, Ints

Reduction = Callable[[Iterable[Tensor]], Tensor]
"""A function of columns of all rows, which are given from left to right in pieces ``[n, k]``."""


class RowsLost(Exception):
    """The error of rows that were lost with the node that held them: the round is to be done again."""


class Shelf(Protocol):
    """A place where rows of updates lie: a worker's file on this node, or another node.

    Attributes:
        clients: the client of each row, ``[m]``.
        weight: aggregation weights, float64 ``[m]``.
    """

    @property
    def clients(self) -> Ints: ...

    @property
    def weight(self) -> Floats: ...

    def read(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        """Return the columns ``[start, stop)`` of some rows of a part; RowsLost if they are gone."""

    def close(self) -> None:
        """Let go of them."""


class Share(Protocol):
    """The workers that hold rows, and reduce them where they lie."""

    def __call__(
        self, rows: StoredRows, part: str, ranges: Sequence[tuple[int, int]], reduce: Reduction
    ) -> Sequence[Tensor | None]:
        """Return what a function makes of each range of columns of a part; None: nobody did it."""


class StoredRows(Mapping[str, Tensor]):
    """The rows of all clients, in the order of the clients, wherever they lie: an accumulator that is no sum.

    As a mapping it gives whole parts ``[n, k]``, which it then holds, O(n k) of memory; ``columns`` reads as many as
    are asked for and holds nothing.

    Args:
        shelves: the places of the rows; no client is on two.
        widths: the length of each part.
        share: the workers that may reduce them; None: whoever asks reads and computes alone.

    Attributes:
        device: the device that rows are brought to.
    """

    def __init__(self, shelves: Sequence[Shelf], widths: Mapping[str, int], share: Share | None = None) -> None:
        self.widths, self.shelves, self.device = dict(widths), shelves, torch.device("cpu")
        self._share = share
        clients = np.concatenate([shelf.clients for shelf in shelves])
        self._order = np.argsort(clients, kind="stable")
        self._starts = np.cumsum([0, *(len(shelf.clients) for shelf in shelves)])
        self.clients: Ints = clients[self._order]
        self.weight: Floats = np.concatenate([shelf.weight for shelf in shelves])[self._order]
        self._whole: dict[str, Tensor] = {}

    def columns(self, part: str, start: int, stop: int, rows: Ints | None = None) -> Tensor:
        """Return the columns ``[start, stop)`` of a part: of all clients ``[n, k]``, or of the positions ``rows``.

        Raises:
            RowsLost: a node that held some is gone.
        """
        wanted = self._order if rows is None else self._order[rows]
        found = np.empty((len(wanted), stop - start), dtype=np.float32)
        for shelf, first, last in zip(self.shelves, self._starts[:-1], self._starts[1:], strict=True):
            here = np.flatnonzero((wanted >= first) & (wanted < last))
            if len(here):
                found[here] = shelf.read(part, wanted[here] - first, start, stop)
        return torch.from_numpy(found).to(self.device)

    def shared_out(self, part: str, ranges: Sequence[tuple[int, int]], reduce: Reduction) -> Sequence[Tensor | None]:
        """Return what workers make of each range of columns; None is left to the caller, as a GPU of its own is."""
        if self._share is None or self.device.type != "cpu" or len(ranges) < 2:
            return [None] * len(ranges)
        return self._share(self, part, ranges, reduce)

    def __reduce__(self) -> tuple[Callable[..., StoredRows], tuple[Sequence[Shelf], Mapping[str, int]]]:
        """Pickle the places: the rows stay where they lie."""
        return StoredRows, (self.shelves, self.widths)

    def close(self) -> None:
        """Let go of all places."""
        for shelf in self.shelves:
            shelf.close()

    def __getitem__(self, part: str) -> Tensor:
        if part not in self._whole:
            self._whole[part] = self.columns(part, 0, self.widths[part])
        return self._whole[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self.widths)

    def __len__(self) -> int:
        return len(self.widths)


def brought(folded: Mapping[str, Tensor], device: torch.device) -> Mapping[str, Tensor]:
    """Return what was folded on a device; what is stored is brought there when it is read."""
    if isinstance(folded, StoredRows):
        folded.device = device
        return folded
    return {name: part.to(device) for name, part in folded.items()}
