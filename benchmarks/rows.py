"""Rows of a reference: kept in a file as they are measured, and shown in the tables of a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Found = dict[str, Any]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the half width of its 95 % interval by Student's t.

    >>> [round(value, 3) for value in interval([0.9, 0.92, 0.94])]
    [0.92, 0.05]
    """
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(stats.t.ppf(0.975, max(1, len(values) - 1))) * error


def kept(lines: Path | None) -> list[Found]:
    """Return the rows of a file of JSON lines; none where there is no file."""
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines and lines.exists() else []


def keeping(rows: Iterable[Found], lines: Path | None) -> Iterator[Found]:
    """Yield rows, each once it is in the file, if there is to be one."""
    for row in rows:
        if lines:
            with lines.open("a") as file:
                file.write(json.dumps(row) + "\n")
        yield row


def written(page: str, tables: Sequence[str], begins: str = "| ") -> str:
    """Return a page with tables in the place of those that stand there.

    Args:
        page: the text.
        tables: lines of the new ones.
        begins: what the first line of the old ones begins with; they go on until another text, or the end.

    Raises:
        ValueError: there is no such table.

    >>> print(written("How.\\n\\n| a, 1 seed | x |\\n|---|---|\\n\\nMore.\\n", ["| a, 2 seeds | x |", "|---|---|"]))
    How.
    <BLANKLINE>
    | a, 2 seeds | x |
    |---|---|
    <BLANKLINE>
    More.
    <BLANKLINE>
    """
    lines = page.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith(begins)), None)
    if first is None:
        raise ValueError(f"no table of the page begins with {begins!r}")
    last = first
    for number in range(first, len(lines)):
        if lines[number].startswith("|"):
            last = number
        elif lines[number]:
            break
    return "\n".join([*lines[:first], *"\n".join(tables).rstrip().split("\n"), *lines[last + 1 :]]) + "\n"
