"""Python's garbage collector, off where it only costs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Stop Python's garbage collector while large modules are imported.

    A fifth of the time that importing torch takes is the collector's: it looks through ever more modules, again and
    again, and finds that all are in use.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
