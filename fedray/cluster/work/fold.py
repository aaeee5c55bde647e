"""The fold of a node: an accumulator in shared memory for each worker, added up in place, or rows in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from fedray.aggregators.base import Aggregator
from fedray.aggregators.stored import StoredRows
from fedray.cluster.work.memory import Buffer
from fedray.cluster.work.rows import FileShelf, RowFile


class NodeFold:
    """The node's part of what a round folds.

    Args:
        aggregator: the rule that adds up.
        widths: length of each part of an accumulator.
        pinned: this process copies accumulators to and from a GPU.
    """

    def __init__(self, aggregator: Aggregator, widths: Mapping[str, int], pinned: bool = False) -> None:
        self.aggregator = aggregator
        self.widths = widths
        self._pinned = pinned
        self._shelves: list[FileShelf] = []
        self._forms = WeakKeyDictionary[Buffer, Any]()

    def accumulator(self) -> Buffer | RowFile:
        """Make memory for a worker to fold into: a sum, or rows."""
        if self.aggregator.linear:
            return Buffer(self.widths, self.aggregator.dtype, self._pinned)
        return RowFile(self.widths)

    def begin(self) -> None:
        """Forget the round before."""
        for shelf in self._shelves:
            shelf.close()
        self._shelves = []
        self._forms.clear()

    def hold(self, accumulator: Buffer | RowFile, held: Any) -> None:
        """Note the form of a worker's sum, or the :class:`Held` rows of its file, which outlive it."""
        if isinstance(accumulator, Buffer):
            self._forms[accumulator] = held
        elif held is not None and len(held.clients):
            self._shelves.append(accumulator.shelf(held))

    def total(self, accumulators: Sequence[Buffer | RowFile]) -> Mapping[str, Tensor]:
        """Return the rows that are held, or the sum of accumulators, in the first of them; empty if there is none."""
        if self._shelves:
            return StoredRows(self._shelves, self.widths)
        sums = [
            self.aggregator.formed(own.tensors, self._forms[own]) for own in accumulators if isinstance(own, Buffer)
        ]
        if not sums:
            return {}
        total, *others = sums
        for other in others:
            self.aggregator.merge(total, other)
        return total
