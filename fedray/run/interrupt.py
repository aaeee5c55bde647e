"""Ctrl-C, SIGTERM and SIGUSR1: the first asks the run to stop with a checkpoint, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = 75
"""Exit status of what was stopped and can go on (``EX_TEMPFAIL``)."""

# Slurm warns of the end of a job by SIGUSR1, if told to, and of preemption by SIGTERM.
_WARNINGS = (signal.SIGTERM, signal.SIGUSR1)
_SIGNALS = (signal.SIGINT, *_WARNINGS)


@contextmanager
def starting() -> Iterator[None]:
    """A context in which SIGTERM and SIGUSR1 end the process with status ``STOPPED`` at once, by ``SystemExit``.

    For the time before a run has begun: there is nothing to save yet, and whoever asked for the stop learns that the
    work is still to be done.  Ctrl-C acts as usual.  In another thread than the main one this does nothing.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, b"fedray: stopped before the run began\n")
        raise SystemExit(STOPPED)

    before = _handlers(_WARNINGS)
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        _restore(before)


def exit_at_once(number: int) -> None:
    """End the process, without another word of Python."""
    os._exit(128 + number)


class StopSignals:
    """A context in which signals stop a run, from the moment :meth:`arm` is given the run's stop function.

    Before that a signal acts as before the context.  Python hands signals to the main thread only, so in another
    thread this does nothing.

    Args:
        announce: called once, at the first signal.
        again: is given the second one, once signals act as before the context again; ``signal.raise_signal`` where the
            process is not ours to end.
    """

    def __init__(self, announce: Callable[[], None], again: Callable[[int], None] = exit_at_once) -> None:
        self._announce = announce
        self._again = again
        self._before: dict[signal.Signals, Any] = {}
        self.stopped = False

    def __enter__(self) -> StopSignals:
        self._before = _handlers(_SIGNALS)
        return self

    def arm(self, stop: Callable[[], None]) -> None:
        """Handle signals from now on (after Ray has installed its own handlers)."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.stopped:
                _restore(self._before)
                self._again(number)
                return
            self.stopped = True
            # Not in the handler itself: it may have interrupted the very code that stop would call.
            threading.Thread(target=self._ask, args=(stop,), daemon=True).start()

        for number in self._before:
            signal.signal(number, handle)

    def _ask(self, stop: Callable[[], None]) -> None:
        stop()
        self._announce()

    def __exit__(self, *_: object) -> None:
        _restore(self._before)


def _handlers(numbers: tuple[signal.Signals, ...]) -> dict[signal.Signals, Any]:
    """The handlers now in force; none outside the main thread, where they cannot be changed."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in numbers}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # A handler that was not installed from Python cannot be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
