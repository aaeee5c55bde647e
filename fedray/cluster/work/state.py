"""Memory of rows of client state that the workers of a node share with the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.cluster.work.memory import Buffer, Handle
from fedray.core.errors import RunFailed
from fedray.rundir.held_rows import LIMIT, RowMemory

_COHORTS = 3
"""Rows that are replaced make room two rounds later: there are those of all clients, and of so many cohorts."""


@dataclass(frozen=True)
class StateHandle:
    """The place where such memory can be opened.

    Args:
        buffer: of all fields.
        sizes: the bytes of each field of a row.
        most: the number of rows.
    """

    buffer: Handle
    sizes: Sequence[int]
    most: int

    def open(self) -> RowMemory:
        """Return the memory; writes are seen by all processes.

        Raises:
            OSError: the owner is gone, or lives on another node.
        """
        return _of(self.buffer.open(), self.sizes, self.most)


class StateBuffer:
    """Memory of rows, owned by this process; what nobody writes to takes none.

    Args:
        sizes: the bytes of each field of a row.
        most: the number of rows.
    """

    def __init__(self, sizes: Sequence[int], most: int) -> None:
        self._buffer = Buffer({str(place): most * size for place, size in enumerate(sizes)}, torch.uint8)
        self.handle = StateHandle(self._buffer.handle, tuple(sizes), most)
        self.memory = _of(self._buffer.tensors, sizes, most)

    @classmethod
    def of(cls, sizes: Sequence[int], clients: int) -> StateBuffer | None:
        """Make memory for the rows of so many clients; None: there are no rows, or no room for them."""
        if not sum(sizes):
            return None
        most = min(LIMIT // sum(sizes), (1 + _COHORTS) * clients)
        try:
            return cls(sizes, most) if most else None
        except RunFailed:  # where shared memory is a folder that is too small: rows are in files then
            return None

    def close(self) -> None:
        """Give up ownership; mappings stay valid where they are."""
        self._buffer.close()


def _of(tensors: Mapping[str, Tensor], sizes: Sequence[int], most: int) -> RowMemory:
    return RowMemory([tensors[str(place)].numpy().reshape(most, size) for place, size in enumerate(sizes)])
