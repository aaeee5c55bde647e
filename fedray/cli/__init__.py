"""The command line.

Exit status: 0 done, 1 the run failed, 2 config or data is wrong, 75 stopped with a checkpoint, 130 interrupted before
the run began, 141 of a command that only prints, when nobody reads on.
"""

from __future__ import annotations

import atexit
import signal
import sys

from fedray.core.errors import ConfigError, RunFailed
from fedray.core.unread import lasting_output
from fedray.run.interrupt import INTERRUPTED, exit_at_once, held, starting


def main() -> None:
    """Run the ``fedray`` command."""
    # What is registered first comes last: once the exit status stands, a Ctrl-C makes no other of it.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    # First of all: a Ctrl-C that falls into an import can be dropped by Python, or leave half a module behind.
    with starting(again=exit_at_once), lasting_output():
        try:
            with held():
                from fedray.cli.app import app
                from fedray.cli.common import FAILED, WRONG
            app()
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except ConfigError as error:
            sys.stderr.write(f"fedray: {error}\n")
            sys.exit(WRONG)
        except RunFailed as error:
            sys.stderr.write(f"fedray: the run failed: {error}\n")
            sys.exit(FAILED)
