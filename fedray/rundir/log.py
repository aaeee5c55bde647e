"""A run's log file, and how a run that fails ends: with its traceback there, and one clear error."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from fedray.core.errors import ConfigError, RunFailed, one_line
from fedray.rundir.names import LOG, to_go_on

_log = logging.getLogger("fedray")


class LogFile(logging.FileHandler):
    """A log that a full disk cuts short, which is said once on stderr, and that ends no run by itself."""

    cut_short = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say that lines are missing, instead of a traceback for each of them."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.cut_short:
            self.cut_short = True
            sys.stderr.write(f"fedray: {self.baseFilename} is cut short: {error.strerror or error}\n")

    def close(self) -> None:
        """Close the file, with what it still has room for."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write fedray's log to a file of a run folder, the traceback of what ends the context included.

    Raises:
        RunFailed: for any error but a ConfigError, which is the user's and stays as it is.
    """
    try:
        handler = LogFile(folder / LOG)
    except OSError as error:
        raise ConfigError(f"run.dir: {folder} cannot be written: {error.strerror or error}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        _log.exception("the run failed: %s", error)
        if isinstance(error, RunFailed):
            raise
        if isinstance(error, OSError):
            # A full disk, a folder that went away: no fault of a client's, whose errors are values.
            reason = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
            raise RunFailed(f"{reason}; mend it, then `{to_go_on(folder)}`") from error
        raise RunFailed(one_line(error)) from error
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        handler.close()
