"""Code of the user's own that follows a run: its errors do not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
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
        tracker: the other one; with ``background`` its hooks are called in a thread.
        patience: seconds that ``close`` waits for such a thread: a server that does not answer holds up no end.
    """

    def __init__(self, tracker: Tracker, patience: float = 30.0) -> None:
        self._tracker, self._patience = tracker, patience
        self._name = f"tracker {type(tracker).__qualname__}"
        self._guard = Guard(self._name)
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None
        if tracker.background:
            # A daemon: what waits for a server must not keep the process.
            self._thread = Thread(target=self._work, name="fedray-tracker", daemon=True)
            self._thread.start()

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
        self._hand_on("when it was closed", self._tracker.close, always=True)
        thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            thread.join(self._patience)
            if thread.is_alive():
                _log.warning(
                    "%s has not taken all records after %g s, and is not waited for", self._name, self._patience
                )

    def _hand_on(self, when: str, what: Callable[[], None], *, always: bool = False) -> None:
        if self._thread is None:
            self._guard.call(when, what, always=always)
        else:
            self._calls.put(lambda: self._guard.call(when, what, always=always))

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
