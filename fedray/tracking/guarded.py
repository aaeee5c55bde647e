"""Code of the user's own that follows a run: its errors do not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from fedray.core.errors import one_line
from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, Tracker

_log = logging.getLogger("fedray")

T = TypeVar("T")


class Guard:
    """The caller of somebody's code, who names it in a warning when it first raises, and leaves it out from then on.

    The records of a run lie in ``metrics.jsonl`` in any case; a server of records that cannot be reached at night is
    no reason to lose it.

    >>> guard = Guard("callback check")
    >>> guard.call("in round 1", lambda: 1 / 0)
    >>> guard.call("in round 2", lambda: 3) is None
    True

    Args:
        name: of the code, as the warning names it.
    """

    def __init__(self, name: str) -> None:
        self._name, self._broken = name, False

    def call(self, when: str, what: Callable[[], T], *, always: bool = False) -> T | None:
        """Call it and return what it returns; None where it raises, or is left out.

        Args:
            when: words for the time of the call.
            what: the call.
            always: call it even if it is left out, as to close files.
        """
        if self._broken and not always:
            return None
        try:
            return what()
        except Exception as error:
            if not self._broken:
                words = "%s failed %s, and the run goes on without it: %s"
                _log.warning(words, self._name, when, one_line(error), exc_info=True)
            self._broken = True
        return None


class Guarded(Tracker):
    """The tracker that hands everything on to another one, and leaves it out once it raised.

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
        self._tracker, self._guard = tracker, Guard(f"tracker {type(tracker).__qualname__}")

    def start(self, run: RunInfo) -> None:
        """Hand on the start."""
        self._guard.call("at the start", lambda: self._tracker.start(run))

    def round(self, record: RoundRecord) -> None:
        """Hand on a record."""
        self._guard.call(f"in round {record.round}", lambda: self._tracker.round(record))

    def finish(self, summary: dict[str, Any]) -> None:
        """Hand on the summary."""
        self._guard.call("at the end", lambda: self._tracker.finish(summary))

    def close(self) -> None:
        """Close it, also once it raised."""
        self._guard.call("when it was closed", self._tracker.close, always=True)
