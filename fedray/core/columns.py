"""Some columns of vectors that are as long as an update."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Columns:
    """The columns of an update that travel in a round, where not all of them do.

    >>> some, update = Columns((slice(0, 1), slice(2, 4)), width=4), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> some.of(update), some.filled(some.of(update))
    (tensor([[1., 3., 4.]]), tensor([[1., 3., 4., 0.]]))
    >>> some.put(update, torch.zeros(1, 3))
    >>> update
    tensor([[0., 2., 0., 0.]])

    Args:
        places: the places in the update, rising.
        width: the length in which they are summed, at least that of all places, so that it is the same in every round.
    """

    places: tuple[slice, ...]
    width: int

    @cached_property
    def size(self) -> int:
        """The number of columns."""
        return sum(place.stop - place.start for place in self.places)

    def of(self, values: Tensor) -> Tensor:
        """Return a copy of these columns of values ``[..., S]``: ``[..., size]``."""
        return torch.cat([values[..., place] for place in self.places], dim=-1)

    def filled(self, columns: Tensor) -> Tensor:
        """Return ``columns`` ``[..., size]`` in the length in which they are summed, zeros behind: ``[..., width]``."""
        found = columns.new_zeros((*columns.shape[:-1], self.width))
        found[..., : self.size] = columns
        return found

    def put(self, values: Tensor, columns: Tensor) -> None:
        """Put ``columns`` ``[..., size]`` in their places in values ``[..., S]``."""
        pieces = columns.split_with_sizes([p.stop - p.start for p in self.places], dim=-1)
        for place, piece in zip(self.places, pieces, strict=True):
            values[..., place] = piece
