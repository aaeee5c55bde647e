"""The sums of metrics over groups of examples, such as those of each client."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import Ints


@dataclass(frozen=True, eq=False)
class Counts:
    """The number of times that each of some keys was seen: a monoid, exact in any order.

    >>> both = Counts.merged([Counts.of(np.array([7, 3, 7])), Counts.of(np.array([3]))])
    >>> both.keys, both.counts
    (array([3, 7]), array([2, 2]))
    >>> both.dense(9)
    tensor([0., 0., 0., 2., 0., 0., 0., 2., 0.], dtype=torch.float64)

    Args:
        keys: those that were seen, int64, rising.
        counts: their numbers, int64, each at least 1.
    """

    keys: Ints
    counts: Ints

    @classmethod
    def of(cls, keys: Ints) -> Counts:
        """Count keys; negative ones are left out."""
        seen, counts = np.unique(keys[keys >= 0], return_counts=True)
        return cls(seen.astype(np.int64), counts.astype(np.int64))

    @classmethod
    def merged(cls, parts: Sequence[Counts]) -> Counts:
        """Add up."""
        every = np.concatenate([part.keys for part in parts])
        keys, places = np.unique(every, return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([part.counts for part in parts]))
        return cls(keys, counts)

    def dense(self, size: int) -> Tensor:
        """Return the number of each key below ``size``, float64 ``[size]``."""
        whole = np.zeros(size)
        whole[self.keys] = self.counts
        return torch.from_numpy(whole)


State = dict[str, Any]
"""The sums of a metric by name: float64 tensors ``[...]``, or :class:`Counts`."""


def added(states: Sequence[State]) -> State:
    """Add states up, in their order; there must be one at least.

    >>> added([{"total": torch.tensor(1.0)}, {"total": torch.tensor(2.0)}])
    {'total': tensor(3.)}
    """
    total: State = {}
    for name, first in states[0].items():
        parts = [state[name] for state in states]
        total[name] = Counts.merged(parts) if isinstance(first, Counts) else torch.stack(parts).sum(dim=0)
    return total


def on_host(rows: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return what examples add to metrics as arrays of the host: whole numbers as they are, all others in float64."""
    return {
        name: value.to("cpu", torch.float64 if value.is_floating_point() else torch.int64).numpy()
        for name, value in rows.items()
    }


def states_of(rows: Mapping[str, NDArray[Any]], counted: Collection[str], group: Ints, count: int) -> list[State]:
    """Add up what examples add to a metric, for each group of them.

    Args:
        rows: the numbers or keys of each example, ``[B, ...]``, by name.
        counted: the names of keys that are counted.
        group: the group of each example, ``[B]``, from 0 to below ``count``.
        count: the number of groups.

    Returns:
        The sums of each group.
    """
    states: list[State] = [{} for _ in range(count)]
    for name, values in rows.items():
        parts = _counts(values, group, count) if name in counted else torch.from_numpy(sums(values, group, count))
        for state, part in zip(states, parts, strict=True):
            state[name] = part
    return states


def sums(values: NDArray[Any], group: Ints, count: int) -> NDArray[np.float64]:
    """Add up values ``[B, ...]`` of each group, float64 ``[count, ...]``, in the order of the rows.

    >>> sums(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0]), 3)
    array([5., 2., 0.])
    """
    flat = values.reshape(len(values), -1)
    columns = [np.bincount(group, weights=column, minlength=count).astype(np.float64) for column in flat.T]
    return np.stack(columns, axis=1).reshape(count, *values.shape[1:])


def _counts(keys: NDArray[np.int64], group: Ints, count: int) -> list[Counts]:
    """Count the keys of each group, by one sort for all of them."""
    each = keys.size // max(1, len(keys))
    owner, flat = np.repeat(group, each), keys.reshape(-1)
    owner, flat = owner[flat >= 0], flat[flat >= 0]
    span = int(flat.max()) + 1 if len(flat) else 1
    pairs, counts = np.unique(owner * span + flat, return_counts=True)
    edges = np.searchsorted(pairs, span * np.arange(count + 1))
    return [
        Counts(pairs[start:stop] - span * place, counts[start:stop].astype(np.int64))
        for place, (start, stop) in enumerate(pairwise(edges))
    ]
