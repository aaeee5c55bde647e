"""The workers of a node as those who reduce the rows that lie there, range by range of their columns."""

from __future__ import annotations

from collections.abc import Sequence

import ray
import torch
from torch import Tensor

from fedray.aggregators.stored import Reduction, StoredRows
from fedray.cluster.work.group import WorkerGroup
from fedray.run.columns import ColumnRange, ColumnReport


class NodeShare:
    """The workers of this process's node, which have work in a round until it is aggregated.

    A worker that dies costs its range, which another does, by the ledger of their group; a range that two were lost at
    is left to the caller, as all are where one worker would only do what the caller can.

    Args:
        group: the workers; their files hold all rows.
        first: the positions in the round up to this one are taken.
    """

    def __init__(self, group: WorkerGroup, first: int) -> None:
        self._group, self._next = group, first

    def __call__(
        self, rows: StoredRows, part: str, ranges: Sequence[tuple[int, int]], reduce: Reduction
    ) -> Sequence[Tensor | None]:
        """See :class:`fedray.aggregators.stored.Share`."""
        if self._group.capacity(None) < 2:
            return [None] * len(ranges)
        packed = ray.cloudpickle.dumps((rows, reduce))  # a function of the user's may be of no module
        items = [ColumnRange(index, part, *columns, packed) for index, columns in enumerate(ranges)]
        first, self._next = self._next, self._next + len(items)
        reports = self._group.work(dict(enumerate(items, first)), lambda: False) or {}
        found: list[Tensor | None] = [None] * len(items)
        for report in reports.values():
            if isinstance(report, ColumnReport) and report.found is not None:
                found[report.index] = torch.from_numpy(report.found)
        return found
