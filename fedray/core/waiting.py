"""The wait before a run's first round, shown: a line in a terminal or a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from fedray.core.notebooks import Output, in_notebook
from fedray.core.stages import Stage, listening
from fedray.core.terminal import standard_output


@contextmanager
def waiting(quiet: bool = False, console: rich.console.Console | None = None) -> Iterator[None]:
    """Show the stages that this thread comes to in the context.

    In a terminal one line has the stage, its time, and a bar where it has pieces; it is gone afterwards, as is the
    stage below a cell of a notebook.  Elsewhere
    each stage is a line of its own.

    Args:
        quiet: show nothing.
        console: default: standard output.
    """
    if quiet:
        yield
        return
    if console is None and in_notebook():
        output = Output("", "")
        with listening(lambda stage: output.show(f"<em>{escape(in_words(stage))} …</em>", in_words(stage))):
            try:
                yield
            finally:
                output.show("", "")
        return
    out = console or standard_output()
    if not out.is_interactive:
        with listening(Lines(out).show):
            yield
        return
    line = Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        _OfSome(BarColumn(bar_width=20)),
        _OfSome(MofNCompleteColumn()),
        TimeElapsedColumn(),
        console=out,
        refresh_per_second=8,
        transient=True,
        redirect_stderr=sys.stderr.isatty(),
    )
    shown = _Line(line)
    try:
        with listening(shown.show):
            yield
    finally:
        line.stop()


class Lines:
    """The stages as plain lines, each once."""

    def __init__(self, out: rich.console.Console) -> None:
        self._out, self._last = out, ""

    def show(self, stage: Stage) -> None:
        """Print a stage that is a new one."""
        if stage.words != self._last:
            self._last = stage.words
            self._out.print(Text(in_words(stage)), soft_wrap=True)


def in_words(stage: Stage) -> str:
    """Return the words of a stage, with the number of its pieces.

    >>> in_words(Stage("reading tables", 0, 5)), in_words(Stage("starting Ray"))
    ('reading tables (5)', 'starting Ray')
    """
    return f"{stage.words} ({stage.of:,})" if stage.of else stage.words


class _Line:
    """The one line of a terminal."""

    def __init__(self, line: Progress) -> None:
        self._line, self._last = line, ""

    def show(self, stage: Stage) -> None:
        new, self._last = stage.words != self._last, stage.words
        if new:
            for task in self._line.task_ids:
                self._line.remove_task(task)  # a total, once there, cannot be taken back
            self._task = self._line.add_task(stage.words, total=None)
        if stage.of:
            self._line.update(self._task, completed=stage.done, total=stage.of)
        if new:
            self._line.start()
            self._line.console.show_cursor(True)  # never hidden, so that no way of dying can leave it so
            self._line.refresh()  # what is to come may leave no other thread a moment


class _OfSome(ProgressColumn):
    """A column that stands where a stage has pieces."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> rich.console.RenderableType:
        return Text() if task.total is None else self._column.render(task)
