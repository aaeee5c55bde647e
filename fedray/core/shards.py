"""The shards of a vector: each rank of a worker holds some of the rows of every tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedray.core.layout import Layout


@dataclass(frozen=True)
class Shard:
    """A rank's part of a vector: of each tensor some rows, which are one piece of the vector.

    Rows are shared out as ``torch.chunk`` does it, and so FSDP2: each rank has ``ceil(n / R)`` of n rows, as long as
    there are some.  All shards together are the vector, and no two have anything in common.

    >>> shard = Shard(Layout.of(torch.nn.Linear(2, 3)), rank=1, ranks=2)
    >>> [(entry.name, entry.shape) for entry in shard.layout.entries]
    [('weight', (1, 2)), ('bias', (1,))]
    >>> shard.take(torch.arange(9.0))
    tensor([4., 5., 8.])

    Args:
        whole: the layout of the vector ``[P]``; each tensor has a first dimension.
        rank: from 0.
        ranks: R, the number of ranks.
    """

    whole: Layout
    rank: int
    ranks: int

    @cached_property
    def layout(self) -> Layout:
        """The layout of the rank's rows of all tensors, as a vector of its own."""
        rows = (range(*self._rows(entry.shape[0])) for entry in self.whole.entries)
        shapes = zip(self.whole.entries, rows, strict=True)
        return self.whole.shaped({entry.name: (len(own), *entry.shape[1:]) for entry, own in shapes})

    @cached_property
    def pieces(self) -> tuple[slice, ...]:
        """The places of the rank's rows of each tensor in the whole vector ``[P]``."""
        found = []
        for entry in self.whole.entries:
            length = math.prod(entry.shape[1:])
            first, last = self._rows(entry.shape[0])
            found.append(slice(entry.start + first * length, entry.start + last * length))
        return tuple(found)

    def _rows(self, count: int) -> tuple[int, int]:
        """Return the first of the rank's rows of so many, and the one after its last."""
        most = -(-count // self.ranks)
        return min(self.rank * most, count), min((self.rank + 1) * most, count)

    def take(self, vector: Tensor) -> Tensor:
        """Return the rank's part ``[k]`` of a vector ``[P]``, in memory of its own."""
        return torch.cat([vector[piece] for piece in self.pieces])

    def put(self, values: Tensor, into: Tensor) -> None:
        """Put the rank's part ``[k]`` into a vector ``[P]``, in place."""
        lengths = [piece.stop - piece.start for piece in self.pieces]
        for piece, part in zip(self.pieces, values.split_with_sizes(lengths), strict=True):
            into[piece] = part
