"""Output that nobody reads: a pipe whose reader has gone, as after ``| head -3``, or a terminal that was closed.

It stops no work: a run trains on, and ends as it would have ended.  A command whose output is all that it leaves ends
there, without a word, with the status that a shell gives to one whom SIGPIPE has ended.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

ENDED = 128 + signal.SIGPIPE
"""Exit status of a command that ended since nobody read its output."""

_GONE = frozenset({errno.EPIPE, errno.EIO})
"""The errors of a pipe without a reader, and of a terminal that is not there any more."""

_needed: list[bool] = []


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let what is written to standard output and standard error in the context go nowhere once nobody reads it.

    Streams that somebody has put in their places, as notebooks and tests do, are left alone.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)
    ours = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in ours:
            if stream is not None:
                stream.flush()
        # Whoever has replaced them meanwhile puts back what was there before, and not us.
        if (sys.stdout, sys.stderr) == ours:
            sys.stdout, sys.stderr = before


@contextmanager
def ending_unread() -> Iterator[None]:
    """End the work in the context, by ``SystemExit``, once nobody reads what it prints."""
    _needed.append(True)
    try:
        yield
        sys.stdout.flush()
    finally:
        _needed.pop()


def say(text: bytes) -> None:
    """Write to standard error past Python's streams, which a handler of a signal may have interrupted."""
    with suppress(OSError):  # nobody may read it
        os.write(2, text)


class _Raw(io.FileIO):
    """A file descriptor that is turned to ``/dev/null`` once nobody reads what is written to it."""

    def write(self, data: Any, /) -> int:
        """Write, or drop what nobody reads."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if _needed:
                raise SystemExit(ENDED) from None
            return memoryview(data).nbytes


def _lasting(stream: Any) -> Any:
    """Return a stream over the same descriptor, if it is one of the two that the process was started with."""
    if type(stream) is not io.TextIOWrapper or isinstance(getattr(stream.buffer, "raw", stream.buffer), _Raw):
        return stream
    with suppress(OSError, ValueError):
        if (number := stream.fileno()) in (1, 2):
            stream.flush()
            raw = _Raw(number, "w", closefd=False)
            raw.name = stream.name
            unbuffered = isinstance(stream.buffer, io.RawIOBase)
            return io.TextIOWrapper(
                raw if unbuffered else io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
    return stream
