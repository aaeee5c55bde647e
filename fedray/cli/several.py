"""Several runs by one command, and their stop: of all, by a signal or by `fedray stop` of their folder, or of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedray.cli.common import in_sight, shown
from fedray.run.interrupt import STOPPED
from fedray.rundir.several import Several, doing_several

if TYPE_CHECKING:
    from fedray.experiment.experiment import Experiment


class AllStopped(Exception):
    """The end of all runs of a command, which begins no further one."""


class Runs:
    """The runs of a command.

    Args:
        note: of this process, in their folder.
        quiet: show nothing.

    Attributes:
        begun: True once one has begun that has left something to go on with, or a failure.
    """

    def __init__(self, note: Several, quiet: bool) -> None:
        self.begun = False
        self._note, self._quiet = note, quiet

    @property
    def asked(self) -> bool:
        """True once `fedray stop` has asked for the end of all."""
        return self._note.asked

    def go_on(self) -> None:
        """Raise AllStopped once `fedray stop` has asked for the end of all."""
        if self.asked:
            raise AllStopped

    def do(self, make: Callable[[], Experiment]) -> bool:
        """Make a run and do it; False: `fedray stop` has stopped it, and no other one.

        Raises:
            AllStopped: it was stopped, and so are all.
            ConfigError: it cannot be made, or a mistake was found as it started.
            RunFailed: it could not go on.
        """
        self.go_on()
        with shown(self._quiet):
            experiment = make()
        self.go_on()
        try:
            ended = in_sight(experiment, self._quiet, alone=False)
        except Exception:  # of one that was interrupted before its first round nothing is left
            self.begun = True
            raise
        self.begun = True
        if ended.stopped and (self.asked or not ended.by_name):
            raise AllStopped
        return not ended.stopped


@contextmanager
def several_runs(folder: Path, quiet: bool, count: Callable[[], tuple[int, int]]) -> Iterator[Runs]:
    """Let a command do several runs; where all are stopped, it ends with words on how to go on, and status STOPPED.

    Args:
        folder: of all the run folders.
        quiet: show nothing.
        count: returns how many are done, and how many there are.
    """
    with doing_several(folder) as note:
        runs = Runs(note, quiet)
        try:
            yield runs
        except (AllStopped, KeyboardInterrupt, SystemExit) as error:
            # The last two come between two runs, or before the first one has begun.
            done, every = count()
            ours = not isinstance(error, SystemExit) or error.code == STOPPED
            if not ours or not (isinstance(error, AllStopped) or runs.begun or done):
                raise
            typer.echo(f"stopped after {done} of {every} runs; the same command goes on", err=True)
            raise typer.Exit(STOPPED) from None
