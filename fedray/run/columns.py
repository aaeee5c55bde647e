"""Work items of a rule that looks at single updates: ranges of their columns, reduced by workers of the same node."""

from __future__ import annotations

import pickle
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.aggregators.gathered import Rows
from fedray.aggregators.stored import Reduction, StoredRows


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """Work item: reduce the columns ``[start, stop)`` of all rows of a part.

    Args:
        index: its number among those of the part.
        part: name of the part.
        start: the first column.
        stop: the one after the last.
        packed: the pickled pair of the rows' places and the function, the same for all ranges.
        pin: as for a block.
    """

    index: int
    part: str
    start: int
    stop: int
    packed: bytes
    pin: str | None = None

    def reduced(self) -> ColumnReport:
        """Reduce them, on one thread."""
        stored: StoredRows
        reduce: Reduction
        stored, reduce = pickle.loads(self.packed)
        with closing(stored):
            rows = Rows.of(stored)
            return ColumnReport(self.index, rows.on_range(self.part, (self.start, self.stop), reduce).numpy())


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """The result of a range of columns.

    Args:
        index: its number.
        found: the value of the function; None: two workers were lost at it.
        seconds: 0, as nothing of the time in which workers train, of which their idle time is told.
    """

    index: int
    found: NDArray[np.generic] | None
    seconds: float = 0.0
