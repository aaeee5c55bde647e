"""Python's garbage collector, off where it only costs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """A context for large imports: a fifth of the time that torch takes is the collector's, which looks through
    ever more modules, again and again, and finds that all are in use.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
