"""Numbers as people write them: decimal points or commas, and what stands between thousands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from fedray.core.errors import ConfigError
from fedray.data.encoding.advice import CONFIG, Advice

_BETWEEN = r" '\x{2019}\x{a0}\x{202f}"
"""Characters between thousands that are no decimal mark."""
_ONE_GROUP = {mark: rf"^[+-]?[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}$" for mark in ",."}
_GROUPS = {mark: rf"^[+-]?[1-9][0-9]{{0,2}}([{mark}][0-9]{{3}}){{2,}}$" for mark in ",."}
_FRACTION = {
    mark: rf"^[+-]?([0-9]*|[0-9]{{1,3}}([{other}{_BETWEEN}][0-9]{{3}})+)[{mark}][0-9]+([eE][+-]?[0-9]+)?$"
    for mark, other in (",.", ".,")
}


@dataclass(frozen=True)
class Marks:
    """The cells of a column, or of a file, that show its decimal mark.

    Args:
        comma: a cell that has a decimal comma: ``1,5`` or ``1.234,5`` or ``1.234.567``.
        point: one that has a decimal point.
        either: one that may be a number of thousands or have three decimals: ``1,234`` or ``1.234``.
    """

    comma: str | None = None
    point: str | None = None
    either: str | None = None

    def __or__(self, other: Marks) -> Marks:
        return Marks(self.comma or other.comma, self.point or other.point, self.either or other.either)


def marks_of(column: pa.ChunkedArray) -> Marks:
    """Return what the trimmed cells of a column of text show.

    >>> marks_of(pa.chunked_array([["1,5", "x", None, "7"]])).comma
    '1,5'
    """
    commas = pc.filter(column, pc.match_substring(column, ","))
    points = pc.filter(column, pc.match_substring(column, "."))
    if not len(commas) and not len(points):
        return Marks()
    fractions = {
        mark: _first(cells, _FRACTION[mark], _ONE_GROUP[mark]) for mark, cells in ((",", commas), (".", points))
    }
    return Marks(
        fractions[","] or _first(points, _GROUPS["."]),
        fractions["."] or _first(commas, _GROUPS[","]),
        _first(commas, _ONE_GROUP[","]) or _first(points, _ONE_GROUP["."]),
    )


def _first(cells: pa.ChunkedArray, pattern: str, but: str | None = None) -> str | None:
    """Return the first of the cells that match a pattern and not another one."""
    if not len(cells):
        return None
    matching = pc.match_substring_regex(cells, pattern)
    if but is not None:
        matching = pc.and_not(matching, pc.match_substring_regex(cells, but))
    found = pc.filter(cells, matching)
    return str(found[0].as_py()) if len(found) else None


def all_marks(columns: Iterable[pa.ChunkedArray]) -> Marks:
    """Return what the columns of a file show together."""
    return reduce(Marks.__or__, map(marks_of, columns), Marks())


def decimal_mark(own: Marks, file: Marks, delimiter: str, advice: Advice = CONFIG) -> str:
    """Return the decimal mark of a column: by its own cells, else by those of its file, else by the delimiter.

    >>> decimal_mark(Marks(either="1.234"), Marks(comma="0,5"), ";")
    ','

    Raises:
        ConfigError: nothing tells if ``1.234`` is a thousand or has three decimals.
    """
    for marks in (own, file):
        if bool(marks.comma) != bool(marks.point):
            return "," if marks.comma else "."
    if own.either and not own.point and delimiter == ";":
        raise ConfigError(
            f"{own.either!r} may be a number of thousands or have three decimals; say it: "
            f"{advice.said('decimal', ',')} or {advice.said('decimal', '.')}"
        )
    return "."


def plain_numbers(column: pa.ChunkedArray, decimal: str, thousands: str | None) -> pa.ChunkedArray:
    """Return trimmed cells with a decimal point and nothing between thousands; what is no such number stays.

    >>> plain_numbers(pa.chunked_array([["1.234,5", "7", "1.5"]]), ",", None).to_pylist()
    ['1234.5', '7', '1,5']

    Args:
        column: of text.
        decimal: its decimal mark.
        thousands: the character between thousands; by default the other mark, a space or an apostrophe.
    """
    other = "." if decimal == "," else ","
    between = rf"\x{{{ord(thousands):x}}}" if thousands else other + _BETWEEN
    if decimal == "." and not pc.any(pc.match_substring_regex(column, f"[{between}]")).as_py():
        return column
    grouped = pc.match_substring_regex(
        column, rf"^[+-]?[0-9]{{1,3}}([{between}][0-9]{{3}})+([{decimal}][0-9]*)?([eE][+-]?[0-9]+)?$"
    )
    column = pc.if_else(grouped, pc.replace_substring_regex(column, f"[{between}]", ""), column)
    if decimal == ".":
        return column
    # A point that is left is none of a number, and must not become one.
    swapped = pc.replace_substring(pc.replace_substring(column, ".", "\0"), ",", ".")
    return pc.replace_substring(swapped, "\0", ",")
