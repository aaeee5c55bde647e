"""The fold of a node: an accumulator in shared memory for each worker, added up in place, or rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fedray.aggregators.base import Accumulator, Aggregator
from fedray.cluster.work.memory import Buffer
from fedray.cluster.work.worker import Arrays


class NodeFold:
    """The node's part of a round's sum.

    Args:
        aggregator: the rule that adds up.
        widths: length of each part of an accumulator.
        pinned: this process copies accumulators to and from a GPU.
    """

    def __init__(self, aggregator: Aggregator, widths: Mapping[str, int], pinned: bool = False) -> None:
        self.aggregator = aggregator
        self.widths = widths
        self._pinned = pinned
        self._gathered: Accumulator | None = None

    def accumulator(self) -> Buffer | None:
        """Make memory for a worker to fold into; None where what is folded is no sum, and is handed over as rows."""
        return Buffer(self.widths, torch.float64, self._pinned) if self.aggregator.linear else None

    def begin(self) -> None:
        """Forget the round before."""
        self._gathered = None

    def gather(self, arrays: Arrays) -> None:
        """Take rows that a worker hands over; they outlive it."""
        rows = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if self._gathered is None:
            self._gathered = rows
        else:
            self.aggregator.merge(self._gathered, rows)

    def total(self, accumulators: Sequence[Buffer]) -> Accumulator:
        """Return what was gathered, or the sum of accumulators, in the first of them; empty if nothing was folded."""
        if not self.aggregator.linear:
            return self._gathered or {}
        if not accumulators:
            return {}
        total, *others = (accumulator.tensors for accumulator in accumulators)
        for other in others:
            self.aggregator.merge(total, other)
        return total
