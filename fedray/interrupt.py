"""Ctrl-C and SIGTERM: the first asks the run to stop with a checkpoint, the second exits at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which signals stop a run, from the moment :meth:`arm` is given the run's stop function.

    Before that a signal acts as usual: nothing is running yet.  Python hands signals to the main thread only, so in
    another thread this does nothing.

    Args:
        announce: called once, at the first signal.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._before: dict[signal.Signals, Any] = {}
        self.stopped = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        return self

    def arm(self, stop: Callable[[], None]) -> None:
        """Handle signals from now on (after Ray has installed its own handlers)."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.stopped:
                os._exit(128 + number)
            self.stopped = True
            # Not in the handler itself: it may have interrupted the very code that stop would call.
            threading.Thread(target=self._ask, args=(stop,), daemon=True).start()

        for number in self._before:
            signal.signal(number, handle)

    def _ask(self, stop: Callable[[], None]) -> None:
        stop()
        self._announce()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
