"""The progress of a run in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import rich.console
from rich.console import RenderableType
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from fedray.core.errors import counted
from fedray.core.record import RoundRecord
from fedray.core.stages import Stage
from fedray.core.terminal import pairs, standard_output
from fedray.core.waiting import in_words
from fedray.rundir.client_table import TRAIN, metrics_in, newest_part
from fedray.rundir.each_client import MOST_SHOWN, SUPPORT, Got, below, each_client, of_each_class
from fedray.tracking.base import RunInfo, Tracker
from fedray.tracking.progress import Progress, at_the_end


class Console(Tracker):
    """A live bar in a terminal, a plain line now and then elsewhere, and a table at the end.

    Both show the round, the pace, the time left, the training loss, the test metric (accuracy where there is one) and
    how many clients failed so far.  The cursor is never hidden, so that no way of dying can leave it so.

    Args:
        quiet: show nothing.
        hints: lines at the end, on how to look at what trackers have written.
        every: least seconds between two plain lines; the first and the last round always have theirs.
        console: the console; default: standard output, live if that is a terminal.
        clock: seconds, rising.
    """

    def __init__(
        self,
        quiet: bool = False,
        hints: Sequence[str] = (),
        every: float = 5.0,
        console: rich.console.Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet, self._hints, self._every, self._clock = quiet, hints, every, clock
        self._given = console
        self._out: rich.console.Console | None = None
        self._bar: _Bar | None = None
        self._next_line = 0.0

    def start(self, run: RunInfo) -> None:
        """Show the bar, or say what begins."""
        self.close()
        self._state = Progress(run)
        if self._quiet:
            return
        self._out = self._given or standard_output()
        self._next_line = self._clock()
        if self._out.is_interactive:
            self._bar = _Bar(self._out, run)
        else:
            begins = f"from round {run.resumed_from} of" if run.resumed_from else "for"
            what = f"{counted(run.clients, 'client')}, {counted(run.parameters, 'parameter')}"
            self._line(f"{run.name}: {what}, {begins} {counted(run.rounds, 'round')}")

    def stage(self, stage: Stage) -> None:
        """Show what is done before the first round."""
        if self._bar is not None:
            self._bar.say(in_words(stage))
        elif self._out is not None:
            self._line(in_words(stage))

    def round(self, record: RoundRecord) -> None:
        """Move the bar, or print a line if one is due."""
        state = self._state
        state.add(record)
        if self._bar is not None:
            self._bar.show(record.round, state.words())
        elif not record.round:
            self._line(f"before training  {state.words()}")
        elif record.round <= state.run.resumed_from:
            return  # It was done, and told, before the run went on.
        elif self._out is not None and (record.round == state.run.rounds or self._clock() >= self._next_line):
            self._next_line = self._clock() + self._every
            self._line(f"round {record.round}/{state.run.rounds}  {state.words()}")

    def note(self, text: str) -> None:
        """Say something beside the progress."""
        self._line(text)

    def finish(self, summary: dict[str, Any]) -> None:
        """End the bar and show the table; of ``summary`` it reads times, totals and limits, if there."""
        self._end_bar()
        if self._out is None:
            return
        self._out.print(pairs(self._state.table(summary)))
        self._clients(self._out, self._state.run)
        # Beside the table, so that they can be copied whole however long the path is.
        for line in at_the_end(self._state.run.run_dir, summary, self._hints):
            self._line(line)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._end_bar()
        self._out = None

    def _clients(self, out: rich.console.Console, run: RunInfo) -> None:
        """Show what each client got in the last evaluation, where they are few."""
        few = self._state.evaluated(run.clients) <= MOST_SHOWN
        part = newest_part(run.run_dir) if few else None
        if part is None:
            return
        rows = [row for row in part.to_pylist() if row["view"] != TRAIN]
        metrics = metrics_in(part)
        found = (
            Got(
                row["client"],
                row["view"],
                row["examples"],
                {name: row[name] for name in metrics},
                of_each_class(row.get(SUPPORT)),
            )
            for row in rows
        )
        table, left = each_client(found, out.width)
        self._line(f"held-out rows of each client, after round {rows[0]['round']}:")
        out.print(table)
        for line in below(table, left, "clients/ in the run folder has all"):
            self._line(line)

    def _end_bar(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def _line(self, text: str) -> None:
        out = self._out  # another thread, which has a note, may find it closed from one look to the next
        if out is not None:
            out.print(Text(text), soft_wrap=True)


class _Bar(RichProgress):
    """The progress bar: round, bar and elapsed time on one line, words on the next."""

    def __init__(self, out: rich.console.Console, run: RunInfo) -> None:
        self._words = ""
        columns = TextColumn("round {task.completed}/{task.total}"), BarColumn(), TimeElapsedColumn()
        super().__init__(*columns, console=out, refresh_per_second=4, redirect_stderr=sys.stderr.isatty())
        self._only = self.add_task("", total=run.rounds, completed=run.resumed_from)
        self.start()
        out.show_cursor(True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self._words)

    def say(self, words: str) -> None:
        self._words = words

    def show(self, round: int, words: str) -> None:
        self.say(words)
        self.update(self._only, completed=round)
