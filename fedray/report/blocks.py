"""The blocks that pages are made of: words, facts, tables, figures, and text as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedray.report.charts import Chart

_FEW, _LONG = 12, 40

Cell = str | int | float | None
"""A cell of a table: text as it is, a number, or nothing."""


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Args:
        text: its text.
        warns: it is set apart from the others.
    """

    text: str
    warns: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and what is said of each.

    Args:
        pairs: name and text.
    """

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table; columns of numbers stand to the right, with as many digits in all their lines.

    >>> Table(["client", "rows", "auc"], [["a", 1200, 0.51], ["b", 7, None]]).text()
    [['a', '1,200', '0.5100'], ['b', '7', '']]

    Args:
        head: names of the columns; the first column names the lines.
        rows: cells, as many in each line as there are columns.
        caption: a sentence below.
        folded: the title under which it is hidden until somebody opens it; empty: it is shown.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    folded: str = ""

    @property
    def numeric(self) -> list[bool]:
        """True for each column that holds numbers."""
        return [
            any(isinstance(row[column], int | float) for row in self.rows)
            and all(not isinstance(row[column], str) or not row[column] for row in self.rows)
            for column in range(len(self.head))
        ]

    @property
    def few(self) -> bool:
        """True if its lines are few and longer than a phone has room for: there their cells stand below each other."""
        long = any(isinstance(cell, str) and len(cell) > _LONG for row in self.rows for cell in row)
        return len(self.rows) <= _FEW and (len(self.head) > 3 or long)

    def text(self) -> list[list[str]]:
        """Return the cells as they are shown."""
        columns = [_column([row[column] for row in self.rows]) for column in range(len(self.head))]
        return [list(cells) for cells in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Figures:
    """Figures beside each other, as many as there is room for.

    Args:
        charts: the charts; a caption goes with each.
    """

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Verbatim:
    """Text as it is, hidden until somebody opens it.

    Args:
        title: the title to be opened.
        text: its lines.
    """

    title: str
    text: str


Block = Words | Facts | Table | Figures | Verbatim


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        title: its heading, which the list at the top of the page leads to.
        blocks: the content; a section without any is left out.
    """

    title: str
    blocks: Sequence[Block]


def number(value: float, digits: int | None = None) -> str:
    """Return a number as a table shows it.

    >>> number(0.123456), number(31.25), number(1234567.0), number(0.00001234), number(float("nan"))
    ('0.1235', '31.25', '1,234,567', '1.234e-05', 'nan')

    Args:
        value: the number.
        digits: after the point; default: for four that count.
    """
    if not math.isfinite(value):
        return str(value)
    if digits is None:
        size = abs(value)
        if size and not 1e-3 <= size < 1e12:
            return f"{value:.4g}"
        digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4
    return f"{value:,.{digits}f}"


def _column(cells: Sequence[Cell]) -> list[str]:
    sizes = [abs(cell) for cell in cells if isinstance(cell, float) and math.isfinite(cell)]
    largest = max(sizes, default=0.0)
    digits: int | None = 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3
    if largest < 1:
        digits = 4 if not any(sizes) or min(size for size in sizes if size) >= 1e-3 else None
    return [_cell(cell, digits) for cell in cells]


def _cell(cell: Cell, digits: int | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else number(cell, digits)
