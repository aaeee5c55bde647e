"""Processes of a test's own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def child(work: Callable[[], None]) -> int:
    """Run something in a process of its own; its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which this one does not use
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
