"""The number of positions that a loss counts in a batch, and the loss of the batch by it, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.core.losses import LossFn, Summed, summed
from fedray.local.batches import Batch, Output


@dataclass(frozen=True)
class Counting:
    """The loss of batches as sums over the positions that count, of a loss that leaves out some.

    >>> import numpy as np
    >>> counting = counting_of(torch.nn.CrossEntropyLoss(ignore_index=2))
    >>> batch = Batch(torch.zeros(1, 3, 4), torch.tensor([[0, 2, 1]]), np.array([3]))
    >>> counting.positions(batch)
    tensor([2])
    >>> out = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> parts = [batch.cut(slice(0, 2)), batch.cut(slice(2, 3))]
    >>> found = [counting.loss(Output(o, None, part)) for o, part in zip(out.split([2, 1], dim=1), parts)]
    >>> sum(loss * part.weight(batch) for loss, part in zip(found, parts)), counting.loss(Output(out, None, batch))
    (tensor([0.8250]), tensor([0.8250]))

    Args:
        of: sums and counts of single examples.
    """

    of: Summed

    def positions(self, batch: Batch) -> Tensor:
        """Return the number of positions of each client's real examples that count, int64 ``[A]``."""
        counts = self.of.counts(batch.y.flatten(0, 1)).view(batch.y.shape[:2])
        return (counts if batch.share is None else counts * (batch.share > 0)).sum(dim=1)

    def loss(self, output: Output) -> Tensor:
        """Return the mean over the positions of each client that count, ``[A]``; 0 for a client that has none.

        Of a piece of a batch it is what the piece adds to the loss of the whole batch, over its share of the rows.  So
        the pieces' losses, weighted by their rows as every other mean over a batch is, add up to that of the whole.
        """
        batch, logits = output.batch, output.logits
        return self.mean(self.of.sums(logits.flatten(0, 1), batch.y.flatten(0, 1)).view(batch.y.shape[:2]), batch)

    def mean(self, sums: Tensor, batch: Batch) -> Tensor:
        """Return the mean of what single positions have over each client's that count, ``[A]``, as :meth:`loss` does.

        Args:
            sums: of each example over those of its positions that count, ``[A, B]``.
            batch: the examples.
        """
        if batch.share is not None:
            sums = sums.masked_fill(batch.share == 0, 0.0)
        whole = batch if batch.whole is None else batch.whole
        by = self.positions(whole).to(sums.dtype)
        if batch.whole is not None:
            by = by * batch.weight(whole).to(sums.dtype)
        return sums.sum(dim=1) / torch.where(by > 0, by, 1.0)


def counting_of(loss: LossFn) -> Counting | None:
    """Return how a loss counts positions; None: it counts examples, or joins them in a way of its own."""
    found = summed(loss)
    return None if found is None else Counting(found)


def whole_mean(loss: LossFn, found: Sequence[tuple[Batch, Tensor]], sizes: Tensor) -> Tensor:
    """Return the mean over all that a loss counts of what clients have in pieces of their examples.

    >>> import numpy as np
    >>> pieces = [Batch(torch.zeros(1, n, 4), torch.zeros(1, n), np.array([n])) for n in (3, 1)]
    >>> found = list(zip(pieces, torch.tensor([[2.0], [6.0]])))
    >>> whole_mean(torch.nn.functional.cross_entropy, found, torch.tensor([4.0]))
    tensor([3.])

    Args:
        loss: counts examples, or positions.
        found: pieces with their means, ``[C]`` or ``[C, D]``.
        sizes: the number of examples of each client in all pieces, ``[C]``.
    """
    counting, whole = counting_of(loss), sizes
    counts = [torch.from_numpy(batch.count) for batch, _ in found]
    if counting is not None:
        counts = [counting.positions(batch) for batch, _ in found]
        whole = torch.stack(counts).sum(dim=0).clamp(min=1)
    pieces = [value * _like(count, value) for (_, value), count in zip(found, counts, strict=True)]
    return torch.stack(pieces).sum(dim=0) / _like(whole, found[0][1])


def _like(numbers: Tensor, values: Tensor) -> Tensor:
    """Return one number for each client ``[C]`` in the shape of ``[C]`` or ``[C, D]`` values."""
    return numbers.to(values).view(-1, *(1 for _ in values.shape[1:]))
