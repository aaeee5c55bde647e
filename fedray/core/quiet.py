"""Loggers that say less for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quieted(name: str, level: int = logging.ERROR) -> Iterator[None]:
    """Return the context in which a logger lets nothing below a level through; afterwards it has its own again.

    >>> with quieted("fedray"):
    ...     logging.getLogger("fedray").isEnabledFor(logging.WARNING)
    False

    Args:
        name: of the logger.
        level: of the module ``logging``.
    """
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)
