"""The progress of a run below the cell of a notebook that trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fedray.core.notebooks import Output
from fedray.core.record import RoundRecord
from fedray.core.stages import Stage
from fedray.core.waiting import in_words
from fedray.tracking.base import RunInfo, Tracker
from fedray.tracking.panel import panel
from fedray.tracking.progress import Progress, at_the_end


class Notebook(Tracker):
    """A live table and curves in the output of a cell, drawn anew as records come.

    Args:
        hints: lines at the end, on how to look at what trackers have written.
        every: least seconds between two drawings; the last round always has its own.
        clock: seconds, rising.
    """

    def __init__(
        self, hints: Sequence[str] = (), every: float = 0.3, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hints, self._every, self._clock = hints, every, clock
        self._output: Output | None = None
        self._records: list[RoundRecord] = []
        self._notes: list[str] = []
        self._words, self._next, self._stale = "", 0.0, False

    def start(self, run: RunInfo) -> None:
        """Show the run before its first round."""
        self._state, self._records, self._notes, self._words = Progress(run), [], [], ""
        self._output = None
        self._draw()

    def stage(self, stage: Stage) -> None:
        """Show what is done before the first round."""
        self._words = in_words(stage)
        self._draw()

    def round(self, record: RoundRecord) -> None:
        """Take a record, and draw it if that is due."""
        self._state.add(record)
        self._records.append(record)
        self._words, self._stale = self._state.words(), True
        if record.round == self._state.run.rounds or self._clock() >= self._next:
            self._next = self._clock() + self._every
            self._draw()

    def note(self, text: str) -> None:
        """Say something beside the progress."""
        self._notes.append(text)
        self._draw()

    def finish(self, summary: dict[str, Any]) -> None:
        """Draw the run with its last numbers."""
        self._notes += at_the_end(self._state.run.run_dir, summary, self._hints)
        self._draw(self._state.table(summary))

    def close(self) -> None:
        """Draw what is not drawn yet."""
        if self._stale:
            self._draw()

    def _draw(self, rows: Sequence[tuple[str, str]] = ()) -> None:
        self._stale = False
        run, state = self._state.run, self._state
        words = "" if rows else self._words
        html = panel(run.name, state.round, run.rounds, words, self._records, rows, self._notes)
        lines = [f"{run.name}: round {state.round}/{run.rounds}  {self._words}", *(f"{a}  {b}" for a, b in rows)]
        text = "\n".join([*lines, *self._notes])
        if self._output is None:
            self._output = Output(html, text)
        else:
            self._output.show(html, text)
