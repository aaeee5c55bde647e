"""Aggregators: rules that make one update of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import ClassVar

from torch import Tensor

from fedray.config.registry import Registry, name_of
from fedray.core.messages import Aggregate, BlockUpdate, Parts
from fedray.core.now import Now

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
    >>> mean.finish(near, weight=4.0, planned=4.0, count=2, now=Now(seed=1, round=1)).parts
    {'delta': tensor([5.])}

    Attributes:
        linear: True for a weighted sum; False if it needs to see single updates, which are then kept.
        weighted: True if clients count by their weights, False if each counts the same.
    """

    linear: ClassVar[bool] = True
    weighted: ClassVar[bool] = True

    @property
    def subtracts(self) -> bool:
        """True if ``add`` takes ``update.start`` off ``delta`` itself, where one client's update has a start.

        That saves a pass over memory where models are large.
        """
        return False

    @property
    def least(self) -> int:
        """The smallest number of updates that it can work with; 0: any."""
        return 0

    def initial_state(self, sent: Mapping[str, int], device: str) -> Parts:
        """Return the tensors that the server keeps for it from round to round, before the first: none by default.

        They are checkpointed, and come back in ``finish`` as ``now.state``.

        Args:
            sent: the length of each part that a client sends.
            device: the device of the model.
        """
        return {}

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
    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Return the aggregate of ``count`` accepted clients with total weight ``weight``, of ``planned`` at the start.

        ``total`` is an accumulator, or, where that is no sum, :class:`~fedray.aggregators.stored.StoredRows`.
        It may lie in the memory of ``total``, which is used up, but not in that of ``now.state``.
        """


def too_few(aggregator: Aggregator, count: float, who: str) -> str:
    """Return the words for ``count`` updates that are too few for an aggregator; ``who`` has them."""
    words = repr(aggregator) if is_dataclass(aggregator) else name_of(aggregator)
    return (
        f"aggregator: {words} needs {aggregator.least} updates at least, and {who} {count:g}: "
        "take a larger cohort, or an aggregator that expects fewer attackers"
    )


aggregators = Registry("aggregator", package="fedray.aggregators", base=Aggregator, such_as="fedray.Mean()")
