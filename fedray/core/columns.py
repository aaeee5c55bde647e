"""Some columns of vectors, taken out as one piece and put back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Spans:
    """Some columns of vectors.

    >>> some, vectors = Spans((slice(0, 1), slice(2, 4))), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> some.size, some.of(vectors)
    (3, tensor([[1., 3., 4.]]))
    >>> some.put(vectors, torch.zeros(1, 3))
    >>> vectors
    tensor([[0., 2., 0., 0.]])

    Args:
        places: their places, at least one, rising.
    """

    places: tuple[slice, ...]

    @cached_property
    def size(self) -> int:
        """The number of columns."""
        return sum(place.stop - place.start for place in self.places)

    def of(self, values: Tensor) -> Tensor:
        """Return a copy of these columns of values ``[..., S]``: ``[..., size]``."""
        return torch.cat([values[..., place] for place in self.places], dim=-1)

    def put(self, values: Tensor, columns: Tensor) -> None:
        """Put ``columns`` ``[..., size]`` in their places in values ``[..., S]``."""
        pieces = columns.split_with_sizes([p.stop - p.start for p in self.places], dim=-1)
        # On a CPU torch takes half as long again for many short rows; numpy does not know all of its types.
        on_cpu = values.device.type == "cpu" and values.dtype == columns.dtype == torch.float32
        for place, piece in zip(self.places, pieces, strict=True):
            if on_cpu:
                np.copyto(values.numpy()[..., place], piece.numpy())
            else:
                values[..., place] = piece


@dataclass(frozen=True)
class Columns(Spans):
    """The columns of an update that travel in a round, where not all of them do.

    >>> some = Columns((slice(0, 1), slice(2, 4)), width=4)
    >>> some.filled(some.of(torch.tensor([[1.0, 2.0, 3.0, 4.0]])))
    tensor([[1., 3., 4., 0.]])

    Args:
        places: the places in the update, rising.
        width: the length in which they are summed, at least that of all places, so that it is the same in every round.
    """

    width: int

    def filled(self, columns: Tensor) -> Tensor:
        """Return ``columns`` ``[..., size]`` in the length in which they are summed, zeros behind: ``[..., width]``."""
        found = columns.new_zeros((*columns.shape[:-1], self.width))
        found[..., : self.size] = columns
        return found
