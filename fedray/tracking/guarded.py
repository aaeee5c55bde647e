"""A tracker of the user's own, whose errors do not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fedray.core.errors import one_line
from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, Tracker

_log = logging.getLogger("fedray")


class Guarded(Tracker):
    """The tracker that hands everything on to another one, and leaves it out once it raised.

    The records of a run lie in ``metrics.jsonl`` in any case; a server of records that cannot be reached at night is
    no reason to lose it.

    >>> class Broken(Tracker):
    ...     def round(self, record):
    ...         raise OSError("the server is gone")
    >>> tracker = Guarded(Broken())
    >>> tracker.round(RoundRecord(1))
    >>> tracker.round(RoundRecord(2))

    Args:
        tracker: the other one.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._broken = tracker, False

    def start(self, run: RunInfo) -> None:
        """Hand on the start."""
        self._hand_on("at the start", lambda: self._tracker.start(run))

    def round(self, record: RoundRecord) -> None:
        """Hand on a record."""
        self._hand_on(f"in round {record.round}", lambda: self._tracker.round(record))

    def finish(self, summary: dict[str, Any]) -> None:
        """Hand on the summary."""
        self._hand_on("at the end", lambda: self._tracker.finish(summary))

    def close(self) -> None:
        """Close it, also once it raised."""
        self._try("when it was closed", self._tracker.close)

    def _hand_on(self, when: str, what: Callable[[], None]) -> None:
        if not self._broken:
            self._try(when, what)

    def _try(self, when: str, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            if not self._broken:
                words = "tracker %s failed %s, and the run goes on without it: %s"
                _log.warning(words, type(self._tracker).__qualname__, when, one_line(error), exc_info=True)
            self._broken = True
