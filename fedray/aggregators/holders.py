"""The mean over those who hold an entry, where clients train models of different size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.aggregators.exact import GRID
from fedray.aggregators.mean import Mean
from fedray.core.messages import Aggregate, BlockUpdate, Parts
from fedray.core.now import Now
from fedray.local.variants import Submodels

_HELD = "held"

_UNIT = 2.0**-20
"""The number whose whole multiples weights are rounded to, so that their sum is exact up to 2**33."""


@dataclass(frozen=True)
class MeanOfHolders(Mean):
    """The weighted mean of each entry over the accepted clients that hold it; an entry that nobody holds stays.

    Sums are as wide as the variant of the model that they are of; they meet at the end of a round, on the driver.
    Where all clients have the whole model it is :class:`Mean`, bitwise.

    Args:
        submodels: the variants.
    """

    submodels: Submodels

    def widths(self, sent: Mapping[str, int]) -> Mapping[str, int]:
        """Return the widths of each variant's sums, and of the sum of its weights."""
        found: dict[str, int] = {}
        for number in range(len(self.submodels)):
            own = {**super().widths(self.submodels.sent(number, sent)), _HELD: 1}
            found |= {self._name(name, number): width for name, width in own.items()}
        return found

    def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
        """Fold one block, of one variant."""
        own = self._own(into, update.variant)
        held = own.pop(_HELD)
        super().add(own, update, weight)
        held.add_(float(np.rint(update.weight / _UNIT).sum()))

    def merge(self, into: Accumulator, other: Accumulator) -> None:
        """Add exactly."""
        for number in range(len(self.submodels)):
            super().merge(self._own(into, number), self._own(other, number))

    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Put the sums of all variants in their places, and divide each entry by the weight of those who hold it."""
        sums: Parts = {}
        shares: Parts = {}
        for number in range(len(self.submodels)):
            own = self._own(total, number)
            held = own.pop(_HELD) * (_UNIT / planned)
            for name, part in self.totals(own).items():
                index = self.submodels.places_of(name, number, now.round).to(part.device)
                if name not in sums:
                    size = self._size(name)
                    sums[name], shares[name] = (part.new_zeros(size) for _ in range(2))
                sums[name][index] += part
                shares[name][index] += held
        parts = {name: _mean(part, shares[name]) for name, part in sums.items()}
        return Aggregate(parts, weight, count)

    def _size(self, name: str) -> int:
        """Return the length of a part of the whole model's."""
        layout = self.submodels.layout
        span = layout.spans.get(name)
        return layout.buffers if span is None else span.stop - span.start

    def _name(self, name: str, number: int) -> str:
        return f"{name}@{self.submodels.names[number]}"

    def _own(self, accumulator: Mapping[str, Tensor], number: int) -> Accumulator:
        """Return the sums of a variant, which stay in their memory, by the names of the parts."""
        end = self._name("", number)
        return {name.removesuffix(end): part for name, part in accumulator.items() if name.endswith(end)}


def _mean(total: Tensor, share: Tensor) -> Tensor:
    """Return the mean ``[n]``, float32, of sums in steps of the grid; 0 where nobody has a share."""
    return torch.where(share > 0.0, total.mul(GRID).div(share), 0.0).to(torch.float32)
