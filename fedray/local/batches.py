"""The batches of a schedule, a module's outputs for one, and the course of a fit over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Floats, Ints
from fedray.data.columns.inputs import InputColumns, Inputs
from fedray.data.columns.rows import Rows
from fedray.local.schedule import Schedule


def share_out(count: int, devices: int) -> list[slice]:
    """Cut the rows of a batch into a contiguous share for each device; shares differ by one row at most, larger first.

    A batch with fewer rows than there are devices uses fewer of them.

    >>> share_out(8, 3)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
    """
    used = max(1, min(devices, count))
    least, more = divmod(count, used)
    starts = [least * share + min(share, more) for share in range(used + 1)]
    return [slice(start, stop) for start, stop in pairwise(starts)]


@dataclass(frozen=True, eq=False)
class Batch:
    """The examples of A clients in one step.

    >>> batch = Batch(torch.zeros(2, 3, 4), torch.zeros(2, 3), np.array([3, 1]), torch.tensor([[1 / 3] * 3, [1, 0, 0]]))
    >>> batch.mean(torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]]))  # what is behind a client's count is padding
    tensor([2., 4.])

    Args:
        x: inputs ``[A, B, ...]``, or columns of them.
        y: targets ``[A, B, ...]``.
        count: real examples of each client, ``[A]``; the rest of its row is padding.
        share: the share of each example in its client's mean, ``[A, B]``, 0 for padding; None: there is no padding.
        whole: the batch of the step that it is a piece of; None: it is all of it.
        index: the numbers of the examples among those of their client, ``[A, B]``; None: nobody asks.
    """

    x: Inputs
    y: Tensor
    count: Ints
    share: Tensor | None = None
    whole: Batch | None = None
    index: Ints | None = None

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of ``[A, B]`` values over each client's real examples, ``[A]``."""
        return values.mean(dim=1) if self.share is None else (values * self.share.to(values.dtype)).sum(dim=1)

    def cut(self, piece: slice) -> Batch:
        """Return the examples at these places of each client's row.

        >>> batch = Batch(torch.arange(6.0).view(2, 3), torch.zeros(2, 3), np.array([3, 1]), torch.ones(2, 3))
        >>> batch.cut(slice(1, 3)).count, batch.cut(slice(1, 3)).x
        (array([2, 0]), tensor([[1., 2.],
                [4., 5.]]))
        """
        width = piece.stop - piece.start
        count = np.clip(self.count - piece.start, 0, width)
        share = None
        if count.min() < width:
            shares = (np.arange(width) < count[:, None]) / count[:, None].clip(min=1)
            share = torch.from_numpy(shares).to(self.y.device, torch.float32)
        return Batch(self.x[:, piece], self.y[:, piece], count, share, self if self.whole is None else self.whole)

    def weight(self, whole: Batch) -> Tensor:
        """Return the share of these examples of each client in a ``whole`` batch, ``[A]``."""
        return torch.from_numpy(self.count / whole.count.clip(min=1)).to(self.y.device, torch.float32)


_SMALL = 4 << 20
"""The bytes of inputs up to which the last batch is kept, for another fit that takes the same."""


class Batches:
    """The batches of a schedule.

    The one that was taken last is not gathered again, unless somebody wrote into it.

    Args:
        rows: the block's examples.
        schedule: the places of the examples of each step in them.
        device: the device that they are taken to.
        change: (inputs ``[A, B, ...]``, step) to the changed ones; None: they stay.
    """

    def __init__(
        self,
        rows: Rows,
        schedule: Schedule,
        device: torch.device,
        change: Callable[[Inputs, int], Inputs] | None = None,
    ) -> None:
        self._rows, self._schedule, self._change = rows, schedule, change
        self.active = (schedule.steps[:, None] > np.arange(schedule.count.shape[1])).sum(axis=0).tolist()
        self._widths = schedule.count.max(axis=0)
        self._device = device
        self._last: tuple[int, int, int, Batch] | None = None

    @cached_property
    def _shares(self) -> Tensor:
        """The share of each example in the mean of its batch, ``[S, C, B]``, 0 for padding."""
        count = self._schedule.count.T[:, :, None]
        shares = (np.arange(self._schedule.index.shape[2]) < count) / count.clip(min=1)
        return torch.from_numpy(shares).to(self._device, torch.float32)

    def at(self, step: int, rows: int) -> Batch:
        """Return the batch of the first ``rows`` clients in a step."""
        if self._last is not None:
            *which, changes, batch = self._last
            if which == [step, rows] and changes == _changes(batch):
                return batch
        count, width = self._schedule.count[:rows, step], int(self._widths[step])
        index = self._schedule.index[:rows, step, :width]
        x, y = self._rows.take(index)
        if self._change is not None:
            x = self._change(x, step)
        share = self._shares[step, :rows, :width] if count.min() < width else None
        batch = Batch(x, y, count, share, index=index)
        self._last = (step, rows, _changes(batch), batch) if x.nbytes <= _SMALL else None
        return batch


def _changes(batch: Batch) -> int:
    """Return how often somebody wrote into the examples of a batch."""
    columns = batch.x.columns.values() if isinstance(batch.x, InputColumns) else [batch.x]
    return sum(one._version for one in (*columns, batch.y))


class Output(NamedTuple):
    """The outputs of a module for a batch.

    >>> batch = Batch(torch.zeros(1, 2, 3), torch.tensor([[0, 1]]), np.array([2]))
    >>> out = Output(torch.zeros(1, 2, 4), None, batch)
    >>> out._replace(logits=out.logits + 1.0).logits.sum()  # as an objective may change them
    tensor(8.)

    Args:
        logits: the module's outputs, ``[A, B, ...]``.
        features: the inputs of its last layer with parameters, ``[A, B, f]``; None where that was not called once.
        batch: the batch.
    """

    logits: Tensor
    features: Tensor | None
    batch: Batch


@dataclass(eq=False)
class Trace:
    """The course of a fit.

    >>> trace = Trace(np.array([18.0, 2.0]), np.array([[4, 4, 1], [4, 0, 0]]), {"lr": 0.5}, torch.device("cpu"))
    >>> trace.steps.flatten().tolist(), trace.loss.tolist(), trace.lr
    ([3.0, 1.0], [2.0, 0.5], 0.5)

    Args:
        total: the sum of each client's example losses over its steps, ``[C]``.
        count: the examples of each step, ``[C, S]``.
        group: the optimizer's hyperparameters (``lr``, ``momentum``...).
        device: of ``steps``.
        taken: the steps of each client, ``[C]``, where batches may be empty; None: those with examples.
        counted: the positions of each client that a loss which leaves out targets counted, ``[C]``, of which ``total``
            is the sum; None: it counts examples.
    """

    total: Floats
    count: Ints
    group: Mapping[str, Any]
    device: torch.device
    taken: Ints | None = None
    counted: Ints | None = None

    @property
    def lr(self) -> float:
        """The client learning rate."""
        return float(self.group["lr"])

    @cached_property
    def steps(self) -> Tensor:
        """Local steps of each client, float32 ``[C, 1]``."""
        steps = (self.count > 0).sum(axis=1) if self.taken is None else self.taken
        return torch.from_numpy(steps[:, None]).to(self.device, torch.float32)

    @property
    def loss(self) -> Tensor:
        """The mean loss over the examples seen, or over those of their positions that count, float64 ``[C]``."""
        return torch.from_numpy(self.total / self.seen.clip(min=1)).to(self.device)

    @property
    def seen(self) -> Ints:
        """The number of examples, or of positions, that ``total`` is the sum of, ``[C]``."""
        found: Ints = self.count.sum(axis=1) if self.counted is None else self.counted
        return found
