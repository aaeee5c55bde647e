"""The ledger of a round: the holder of each item, and its report. No item counts twice, none is left out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from fedray.run.worker import Item, Report

H = TypeVar("H")


class Ledger(Generic[H]):
    """The items of a round by their position, with the holder and the report of each.

    Two levels hand out work with it: the driver, whose holders are the worker groups of nodes, and each group, whose
    holders are worker processes.  A report counts as long as what was folded with it exists: in the memory of the
    holder that did the item, or, once it is *kept*, in this process, where it outlives the holder.

    >>> from fedray.run.evaluation import TestChunk, TestReport
    >>> ledger = Ledger[str](dict(enumerate(TestChunk.cut(2500))))
    >>> ledger.assign("a", [0, 1])
    >>> ledger.accept("a", {0: TestReport(0, {}, 0.1)})
    >>> ledger.lose("a", at=1), ledger.missing(), ledger.lost
    (1, [0, 1, 2], 2)

    Args:
        items: the work.
        lost: items that were done in vain before.
    """

    def __init__(self, items: Mapping[int, Item], lost: int = 0) -> None:
        self.items = dict(items)
        self.lost = lost
        self._lock = threading.Lock()
        self._holders: dict[int, H] = {}
        self._reports: dict[int, tuple[H | None, Report]] = {}
        self._losses: Counter[int] = Counter()
        self._news: dict[int, Report] = {}

    def missing(self) -> list[int]:
        """Return the positions without a report, in order."""
        with self._lock:
            return [position for position in self.items if position not in self._reports]

    def assign(self, holder: H, positions: Sequence[int]) -> None:
        """Note that a holder has these items now."""
        with self._lock:
            self._holders |= dict.fromkeys(positions, holder)

    def accept(self, holder: H | None, reports: Mapping[int, Report]) -> None:
        """Enter reports.

        Args:
            holder: the one whose memory has the fold; ``None``: this process has it, or nothing was folded.
            reports: by position.
        """
        with self._lock:
            self._reports |= {position: (holder, report) for position, report in reports.items()}
            self._news |= reports

    def keep(self, holder: H) -> None:
        """Note that what a holder folded is in this process now."""
        with self._lock:
            for position, (by, report) in self._reports.items():
                if by is holder:
                    self._reports[position] = (None, report)

    def has_unkept(self, holder: H) -> bool:
        """Return whether something that a holder folded is in its memory alone."""
        with self._lock:
            return any(by is holder for by, _ in self._reports.values())

    def lose(self, holder: H, at: int | None = None) -> int:
        """Forget what a lost holder had and did, unless it is kept; all of it is to be done again.

        Args:
            holder: the one that is lost.
            at: position of the item that it was at, if that is known.

        Returns:
            The number of holders that have been lost at that item, this one included; 0 if it had been done.
        """
        with self._lock:
            did = {position for position, (by, _) in self._reports.items() if by is holder}
            had = {position for position, by in self._holders.items() if by is holder and position not in self._reports}
            for position in did | had:
                self._reports.pop(position, None)
                self._holders.pop(position, None)
                self._news.pop(position, None)
            self.lost += len(did | had)
            if at is None or at in did or at in self._reports:
                return 0
            self._losses[at] += 1
            return self._losses[at]

    def count_lost(self, begun: Sequence[int]) -> None:
        """Count those of ``begun`` that have no report as done in vain: nobody knows which of the lost had them."""
        with self._lock:
            self.lost += sum(position not in self._reports for position in begun)

    @property
    def losses(self) -> int:
        """The number of holders that were lost at an item, over all items."""
        return self._losses.total()

    @property
    def complete(self) -> bool:
        """True once every item has its report."""
        return len(self._reports) == len(self.items)

    def news(self) -> dict[int, Report]:
        """Return the reports entered since the last call, by position; what was lost meanwhile is not among them."""
        with self._lock:
            news, self._news = self._news, {}
            return news

    def reports(self) -> list[Report]:
        """Return one report for each item, in the order of their positions."""
        return [self._reports[position][1] for position in self.items]
