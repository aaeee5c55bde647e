"""Aggregators: rules that make one update of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedray.config.registry import Registry, name_of
from fedray.core.errors import UpdateOutOfRange as UpdateOutOfRange
from fedray.core.messages import Aggregate, BlockUpdate, Parts
from fedray.core.now import Now

Accumulator = dict[str, Tensor]
"""Tensors by name: all that a worker hands to the driver at the end of a round."""


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
        dtype: the type of the tensors of an accumulator that is a sum.
        remedy: the words on what to do where updates are too few.
    """

    linear: ClassVar[bool] = True
    weighted: ClassVar[bool] = True
    dtype: ClassVar[torch.dtype] = torch.float64
    remedy: ClassVar[str] = "take a larger cohort, or an aggregator that expects fewer attackers"

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

    def least_of(self, sampled: int) -> int:
        """Return the smallest number of updates, of a cohort of so many clients, that it can work with."""
        return self.least

    @property
    def words(self) -> str:
        """Its config key and itself, for a message."""
        return f"aggregator: {repr(self) if is_dataclass(self) else name_of(self)}"

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

    def clear(self, memory: Accumulator) -> Accumulator:
        """Return an empty accumulator in memory of the widths and the type of one, whatever that holds."""
        for part in memory.values():
            part.zero_()
        return memory

    def form(self, accumulator: Accumulator) -> Any:
        """Return all that has to be known of an accumulator from ``clear`` to find it in its memory again, pickled."""
        return None

    def formed(self, memory: Accumulator, form: Any) -> Accumulator:
        """Return the accumulator of a form in its memory; of the form None what fills it."""
        return memory

    def filled(self, accumulator: Accumulator) -> Accumulator:
        """Return an accumulator in the one form that crosses between nodes, of the form None, in its memory."""
        return accumulator

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


def too_few(aggregator: Aggregator, count: float, who: str, sampled: int = 0) -> str:
    """Return the words for ``count`` updates that are too few for an aggregator; ``who`` has them, of ``sampled``."""
    of = f" of {sampled:,}" if aggregator.least_of(sampled) != aggregator.least else ""
    return (
        f"{aggregator.words} needs {aggregator.least_of(sampled)} updates at least, and {who} {count:g}{of}: "
        f"{aggregator.remedy}"
    )


aggregators = Registry("aggregator", package="fedray.aggregators", base=Aggregator, such_as="fedray.Mean()")
