"""Tables for people, which wrap between words in a terminal, and stay whole in a file or a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.live import Live

_UNBOUNDED = 1_000_000


def standard_output() -> Console:
    """Return a console on standard output: live only if that is a terminal, and else as wide as a line takes."""
    # Rich takes FORCE_COLOR, common on CI machines, for a terminal; colours in a log are welcome there, a bar is not.
    there = sys.stdout.isatty()
    return Console(force_interactive=None if there else False, width=None if there else _UNBOUNDED)


def show(what: RenderableType) -> None:
    """Print to standard output, as plain text where that is no terminal."""
    if sys.stdout.isatty():
        standard_output().print(what)
    else:
        sys.stdout.write(plain(what))


def plain(what: RenderableType) -> str:
    """Return text of any width, without colours, and without blanks at the ends of lines.

    >>> print(plain(pairs([("clients", "20"), ("test", "[359] examples")])), end="")
    clients  20
    test     [359] examples
    """
    out = Console(file=io.StringIO(), width=_UNBOUNDED, color_system=None, force_terminal=False)
    # As wide as its longest line: rich fills lines up to their width, and looks at each character that it puts there.
    out.width = max(1, Measurement.get(out, out.options, what).maximum)
    with out.capture() as captured:
        out.print(what)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


@contextmanager
def live(what: RenderableType, out: Console) -> Iterator[Live]:
    """Show what is updated in place; the cursor is never hidden, so that no way of dying can leave it so."""
    from rich.live import Live

    with Live(what, console=out, auto_refresh=False) as shown:
        out.show_cursor(True)
        yield shown


def pairs(rows: Iterable[tuple[str, str]], width: int = 0) -> Table:
    """Lay out names and what is said of them.

    Args:
        rows: a name and its text.
        width: least characters of a name.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


@dataclass(frozen=True)
class Grid:
    """A table with a head; where its words have no room beside each other, line by line with the head at the side.

    Args:
        head: names of the columns.
        lines: cells, as many as there are columns.
        markdown: in Markdown.

    >>> print(plain(Grid(["seed", "loss"], [["1", "0.25"]], markdown=True)), end="")
    | seed | loss |
    |------|------|
    | 1    | 0.25 |
    """

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    markdown: bool = False

    @property
    def width(self) -> int:
        """The characters that a line takes where no cell is wrapped."""
        out = Console(file=io.StringIO(), width=_UNBOUNDED)
        return Measurement.get(out, out.options, self._table()).maximum

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return what the table has to have, and what it takes at most."""
        return Measurement.get(console, options, self._table())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or its lines one below the other."""
        table = self._table()
        if Measurement.get(console, options.update_width(_UNBOUNDED), table).minimum <= options.max_width:
            yield table
            return
        for line in self.lines:
            yield pairs(zip(self.head, line, strict=True))
            yield Text()

    def _table(self) -> Table:
        table = Table(box=box.MARKDOWN if self.markdown else box.HEAVY_HEAD)
        for name in self.head:
            table.add_column(Text(name))
        for line in self.lines:
            table.add_row(*(Text(cell.replace("|", "\\|") if self.markdown else cell) for cell in line))
        return table


def fitted(table: Grid, order: Sequence[str], width: int) -> tuple[Grid, list[str]]:
    """Return a table with as many of its columns as stand side by side in a width, and the names of the others.

    >>> table, left = fitted(Grid(["client", "loss", "accuracy"], [["ann", "0.25", "0.9"]]), ["accuracy", "loss"], 24)
    >>> table.head, left
    (['client', 'accuracy'], ['loss'])

    Args:
        table: the whole; its columns have different names.
        order: names of the columns that may be left out, the last of them first; the first one stays in any case.
        width: in characters.
    """
    for count in range(len(order), 0, -1):
        left = set(order[count:])
        kept = [place for place, name in enumerate(table.head) if name not in left]
        lines = [[line[place] for place in kept] for line in table.lines]
        part = Grid([table.head[place] for place in kept], lines, table.markdown)
        if count == 1 or part.width <= width:
            return part, [name for name in table.head if name in left]
    return table, []
