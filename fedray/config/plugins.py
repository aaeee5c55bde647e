"""Packages that register parts of their own, through the entry-point group ``fedray.parts``."""

from __future__ import annotations

import functools
import logging
from importlib import metadata

from fedray.core.errors import one_line

GROUP = "fedray.parts"

_log = logging.getLogger("fedray")


@functools.cache
def load_plugins() -> tuple[str, ...]:
    """Import every plugin, once a process; one that cannot be imported is named in a warning.

    Returns:
        One sentence for each plugin that could not be imported, and whose parts are missing therefore.
    """
    broken = []
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
            reason = f"cannot be imported, its parts are missing: {one_line(error)}"
            broken.append(f"plugin {entry.name!r}{package} {reason}")
    for words in broken:
        _log.warning("%s", words)
    return tuple(broken)
