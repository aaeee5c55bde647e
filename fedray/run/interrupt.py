"""Ctrl-C, SIGTERM and SIGUSR1: their effect before a run has begun, while Ray starts, and while it trains.

Python drops what a signal handler raises in a finalizer, a weak reference's callback or a fork hook, and what is raised
in the middle of an import or of ``ray.init`` leaves half of them behind.  So a signal is never only raised:

* :func:`starting`: it ends the work by an exception, and is remembered should that be dropped;
* :func:`held`: it waits for the end of what must not be torn;
* :class:`StopSignals`: it asks the run to stop with a checkpoint.

A signal that one of them has heard and nobody has obeyed is obeyed at the next :func:`held` or :meth:`StopSignals.arm`.
A second signal waits for nothing.  Python hands signals to the main thread only: in another thread these contexts do
nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from fedray.core.errors import RunFailed
from fedray.core.unread import say

STOPPED = 75
"""Exit status of a run that was stopped and can go on (``EX_TEMPFAIL``)."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after a Ctrl-C that came before there was anything to go on with, as a shell gives it."""

NOT_BEGUN = "stopped before the run began"
"""The words for a signal that came before the run began."""

# Slurm warns of the end of a job by SIGUSR1, if told to, and of preemption by SIGTERM.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StoppedEarly(RunFailed):
    """A run that was stopped before its first round, and has left nothing behind."""


def exit_at_once(number: int) -> None:
    """End the process, without another word of Python."""
    os._exit(128 + number)


@contextmanager
def starting(
    words: str | None = None, again: Callable[[int], None] | None = None, resumable: bool = True
) -> Iterator[None]:
    """Let signals end the work, while there is nothing to save yet.

    Ctrl-C raises ``KeyboardInterrupt``; SIGTERM and SIGUSR1 raise ``SystemExit`` with status ``STOPPED``, so that
    whoever asked for the stop learns that the work is still to be done.

    >>> with starting():
    ...     signal.raise_signal(signal.SIGUSR1)
    Traceback (most recent call last):
    SystemExit: 75

    Args:
        words: said on standard error, once, if a signal comes before a run has begun.
        again: is given a second signal; None: it acts as the first.
        resumable: the work can be gone on with; False: the status is a shell's, 128 and the signal's number.
    """
    before = _heeded()
    ending = _Ending(words, again, resumable)
    try:
        _install(before, ending)
        yield
    finally:
        _restore(before, ending)


@contextmanager
def held(until: str | None = None) -> Iterator[None]:
    """Let signals wait until the end of this context, and then act as they would have before it.

    If handlers are installed meanwhile, as by :meth:`StopSignals.arm`, they stay, and are what the signal meets.

    >>> with starting():
    ...     with held():
    ...         signal.raise_signal(signal.SIGUSR1)
    ...         done = True
    Traceback (most recent call last):
    SystemExit: 75
    >>> done
    True

    Args:
        until: the event that a signal waits for; said on standard error.
    """
    before = _heeded()
    _obey(before)
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            _restore(before, note)
            if (ending := _ending(before)) is not None:
                ending.heard = noted[0]
        elif until is not None:
            _say(f"stopping as soon as {until} (once more to stop at once)")
        noted.append(number)
        if len(noted) > 1:
            signal.raise_signal(number)

    try:
        _install(before, note)
        yield
    finally:
        _restore(before, note)
        if noted:
            signal.raise_signal(noted[0])


class StopSignals:
    """A context in which signals stop a run, from the moment :meth:`arm` is given the run's stop function.

    Before that a signal acts as before the context.

    Args:
        announce: called once, at the first signal.
        again: is given the second one, once signals act as before the context again; ``signal.raise_signal`` where the
            process is not ours to end.
        heard: called at the first signal, before anything goes on: it may look at what stands there then, and takes no
            lock, as it interrupts whoever has one.
    """

    def __init__(
        self,
        announce: Callable[[], None],
        again: Callable[[int], None] = exit_at_once,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self._announce, self._heard = announce, heard
        self._again = again
        self._before: dict[signal.Signals, Any] = {}
        self._number: int | None = None

    @property
    def stopped(self) -> bool:
        """True once a signal has stopped the run."""
        return self._number is not None

    def __enter__(self) -> StopSignals:
        self._before = _handlers()
        return self

    def arm(self, stop: Callable[[], None]) -> None:
        """Handle signals from now on; one that has come before, and was not obeyed, stops the run at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.stopped:
                _restore(self._before)
                self._again(number)
                return
            self._first(number, stop)

        ending = _ending(self._before)
        if ending is not None:
            ending.words = None  # from now on there is a run that has begun
        _install(self._before, handle)
        if ending is not None and ending.heard is not None and not self.stopped:
            self._first(ending.heard, stop)

    def _first(self, number: int, stop: Callable[[], None]) -> None:
        self._number = number
        self._heard()
        # Not in the handler itself: it may have interrupted the very code that stop would call.
        threading.Thread(target=self._ask, args=(stop,), daemon=True).start()

    def _ask(self, stop: Callable[[], None]) -> None:
        stop()
        self._announce()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _restore(self._before)
        if kind is StoppedEarly and self._number is not None:
            # For who has sent the signal it is as if it had come before the run.
            _say(NOT_BEGUN)
            _end(self._number)


class _Ending:
    """The handler of :func:`starting`.

    Attributes:
        heard: the first signal that came.
        words: said when it comes.
    """

    def __init__(self, words: str | None, again: Callable[[int], None] | None, resumable: bool) -> None:
        self.words, self._again, self._resumable = words, again, resumable
        self.heard: int | None = None

    def __call__(self, number: int, frame: FrameType | None = None) -> None:
        if self.heard is not None and self._again is not None:
            self._again(number)
        if self.heard is None and self.words is not None:
            _say(self.words)
        self.heard = number
        self.end(number)

    def end(self, number: int) -> NoReturn:
        """Raise what a signal asks for."""
        _end(number, STOPPED if self._resumable else 128 + number)


def _end(number: int, status: int = STOPPED) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt from None
    raise SystemExit(status) from None


def _ending(handlers: Mapping[signal.Signals, Any]) -> _Ending | None:
    return next((handler for handler in handlers.values() if isinstance(handler, _Ending)), None)


def _obey(handlers: Mapping[signal.Signals, Any]) -> None:
    """Raise again what a signal has raised before and Python has dropped."""
    ending = _ending(handlers)
    if ending is not None and ending.heard is not None:
        ending.end(ending.heard)


def _say(words: str) -> None:
    say(f"fedray: {words}\n".encode())  # a handler may have interrupted whoever writes to sys.stderr


def _handlers() -> dict[signal.Signals, Any]:
    """Return the handlers now in force; none outside the main thread, where they cannot be changed."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _heeded() -> dict[signal.Signals, Any]:
    """Return the handlers without those of ignored signals, as Ctrl-C is for a process in a shell's background."""
    return {number: handler for number, handler in _handlers().items() if handler is not signal.SIG_IGN}


def _install(instead_of: Mapping[signal.Signals, Any], handler: Callable[[int, FrameType | None], None]) -> None:
    for number in instead_of:
        signal.signal(number, handler)


def _restore(handlers: Mapping[signal.Signals, Any], ours: Any = None) -> None:
    """Put handlers back, only where ours is in force if it is named."""
    for number, handler in handlers.items():
        if ours is None or signal.getsignal(number) is ours:
            # A handler that was not installed from Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
