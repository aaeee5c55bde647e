"""Aggregators: rules that make one update of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from fedray.config.registry import Registry
from fedray.core.messages import Aggregate, BlockUpdate

Accumulator = dict[str, Tensor]
"""Tensors by name: all that a worker hands to the driver at the end of a round."""


class UpdateOutOfRange(ArithmeticError):
    """The error of a client's update that is not finite, or too large to be summed exactly.

    >>> error = UpdateOutOfRange([1], "delta is not finite", "delta")
    >>> error.positions, error.part, str(error)
    ([1], 'delta', 'delta is not finite')

    Args:
        positions: of the clients in their block.
        reason: one line.
        part: the part of the update that is at fault, if one is.
    """

    def __init__(self, positions: list[int], reason: str, part: str | None = None) -> None:
        super().__init__(reason)
        self.positions, self.part = positions, part


class Aggregator(ABC):
    """The base of aggregators: ``zero`` and ``merge`` are a commutative monoid, bitwise, for any grouping and order.

    >>> import numpy as np, torch
    >>> from fedray import Mean
    >>> def block(client, delta, weight):
    ...     one = np.array([1.0])
    ...     return BlockUpdate(1, np.array([client]), {"delta": torch.tensor([[delta]])}, {}, weight * one, one, one)
    >>> mean: Aggregator = Mean()
    >>> near, far = mean.zero({"delta": 1}, "cpu"), mean.zero({"delta": 1}, "cpu")  # on two workers
    >>> mean.add(near, block(0, 2.0, weight=1.0), weight=4.0)
    >>> mean.add(far, block(1, 6.0, weight=3.0), weight=4.0)
    >>> mean.merge(near, far)
    >>> mean.finish(near, weight=4.0, planned=4.0, count=2).parts
    {'delta': tensor([5.])}

    Attributes:
        linear: True for a weighted sum; False if it needs to see single updates (gathered on the driver).
    """

    linear: ClassVar[bool] = True

    def left_out(self, count: int) -> int | None:
        """Return the number of ``count`` updates left out at each end of a coordinate.

        None if the rule leaves out nobody.
        """
        return None

    def widths(self, sent: Mapping[str, int]) -> Mapping[str, int]:
        """Return the lengths of an accumulator's tensors for parts of the lengths ``sent``."""
        return sent

    @abstractmethod
    def zero(self, widths: Mapping[str, int], device: str) -> Accumulator:
        """Return an empty accumulator of the given widths."""

    @abstractmethod
    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Fold one block into ``into``; ``weight`` is the cohort's planned total.

        Raises:
            UpdateOutOfRange: naming the clients by their position in the block; nothing was folded.
        """

    @abstractmethod
    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Add ``other`` to ``into``."""

    @abstractmethod
    def finish(self, total: Accumulator, weight: float, planned: float, count: int) -> Aggregate:
        """Return the aggregate of ``count`` accepted clients with total weight ``weight``, of ``planned`` at the start.

        It may lie in the memory of ``total``, which is used up.
        """


aggregators = Registry("aggregator", package="fedray.aggregators", base=Aggregator, such_as="fedray.Mean()")
