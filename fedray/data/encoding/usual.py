"""The dialect that training tables shared, as what a table to be predicted is read by where it does not tell itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from fedray.data.encoding.dates import day_order
from fedray.data.encoding.dialect import NAMES, SAMPLE, Form, detect, open_text
from fedray.data.encoding.excel import EXCEL
from fedray.data.encoding.reading import read_table
from fedray.data.encoding.table import Reading, Table

_log = logging.getLogger("fedray")

Told = Mapping[str, Any]
"""The dialect that a table tells: keys as in :class:`fedray.data.encoding.dialect.Dialect`, and no others."""

FOUND, GIVEN = ("delimiter", "quote", "decimal", "dates"), ("thousands", "missing")
"""Keys that a table shows, or that were given for it, and those that can only be given."""
_BOTH = "both"


def told_by(table: Table, numbers: Sequence[str], dates: Sequence[str]) -> dict[str, Any]:
    """Return what a table tells of its dialect, by what was given for it and what its cells show.

    The encoding is no part of it: the bytes of each file show it.

    Args:
        table: the table.
        numbers: columns of numbers.
        dates: columns of dates.
    """
    given = table.reading.dialect
    told: dict[str, Any] = {}
    if table.form is not None:
        told |= {"delimiter": table.form.delimiter, "quote": table.form.quote}
    told |= {"decimal": given.decimal or _decimal(table, numbers), "dates": given.dates or _dates(table, dates)}
    told |= {key: getattr(given, key) for key in GIVEN}
    return {key: value for key, value in told.items() if value is not None and value != _BOTH}


def _decimal(table: Table, columns: Sequence[str]) -> str | None:
    marks = table.marks_of(columns)
    if marks.comma and marks.point:
        return _BOTH
    return "," if marks.comma else "." if marks.point else None


def _dates(table: Table, columns: Sequence[str]) -> str | None:
    """Return the order of days and months that columns show; dates of other kinds are read in one way alone."""
    formats = {day_order(table.words(name)) for name in columns if name in table.columns} - {None}
    return _BOTH if len(formats) > 1 else next(iter(formats), None)


def shared(every: Sequence[Told]) -> dict[str, Any]:
    """Return what tables agree on.

    Of what a table shows, those agree that show it; what was given stands only where it was given for all.

    >>> shared([{"delimiter": ";", "decimal": ","}, {"delimiter": ",", "decimal": ","}, {"delimiter": ";"}])
    {'decimal': ','}
    """
    found = {}
    for key in (*FOUND, *GIVEN):
        values = [told[key] for told in every if key in told]
        if values and all(value == values[0] for value in values) and (key in FOUND or len(values) == len(every)):
            found[key] = values[0]
    return found


def kept(paths: Sequence[str], every: Sequence[Told]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what an encoding keeps: the dialect that tables share, and what single files differ in, by their names.

    Args:
        paths: the files; several of one name are taken together.
        every: the dialect that each tells.
    """
    common = shared(every)
    named: dict[str, list[Told]] = {}
    for path, told in zip(paths, every, strict=True):
        named.setdefault(Path(path).name, []).append(told)
    own = {name: {k: v for k, v in shared(those).items() if common.get(k) != v} for name, those in named.items()}
    return common, {name: told for name, told in own.items() if told}


def read_told(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an ``encoding.json`` holds of a dialect.

    Raises:
        ValueError: it is something else.
    """
    for key, value in content.items():
        if key not in (*FOUND, *GIVEN) or not isinstance(value, list if key == "missing" else str):
            raise ValueError(f"{key}={value!r} is nothing of a dialect")
    return dict(content)


def read_as_usual(path: Path, reading: Reading, usual: Told, columns: Sequence[str]) -> Table:
    """Read a table, its delimiter and quote as given, else as usual where that finds the columns, else as it shows.

    Args:
        path: of the file.
        reading: all that is given.
        usual: the dialect of the training tables.
        columns: the columns that the model needs; a delimiter is right if it finds them in the header.

    Raises:
        ConfigError: as :func:`read_table`.
    """
    given = reading.dialect
    if path.is_file() and path.suffix.lower() not in (*EXCEL, ".parquet"):
        form = detect(path, given, reading.advice)
        if given.quote is None and usual.get("quote") == "'" and not _has_quotes(path, form):
            given = replace(given, quote="'")
        separator = usual.get("delimiter", form.delimiter)
        if given.delimiter is None and not form.skipped and separator != form.delimiter:
            other = replace(form, delimiter=separator, quote=given.quote or form.quote)
            if _known(path, other, columns) >= max(1, _known(path, form, columns)):
                given = replace(given, delimiter=separator)
    return read_table(path, replace(reading, dialect=given))


def as_usual(table: Table, usual: Told, numbers: Sequence[str], dates: Sequence[str]) -> Table:
    """Return a table whose decimal mark, dates and missing words are the usual ones where it shows no others.

    A table that is clearly written in another way stays as it is read, and the log warns of that.

    Args:
        table: the table.
        usual: the dialect of the training tables.
        numbers: columns of numbers.
        dates: columns of dates.
    """
    given = table.reading.dialect
    shown = {"decimal": _decimal(table, numbers), "dates": _dates(table, dates)}
    if table.form is not None:
        shown |= {"delimiter": table.form.delimiter, "quote": table.form.quote}
    said = {key for key in (*FOUND, *GIVEN) if getattr(given, key) is not None}
    other = {
        key: value for key, value in shown.items() if value is not None and key not in said and value != usual.get(key)
    }
    differing = [f"{key} {_word(value)}, not {_word(usual[key])}" for key, value in other.items() if key in usual]
    if differing:
        _log.warning("%s is written otherwise than the training tables: %s", table.path, "; ".join(differing))
    taken = {key: usual[key] for key in ("decimal", "dates", *GIVEN) if key in usual and key not in {*said, *other}}
    if taken.get("thousands") in (given.decimal, taken.get("decimal"), other.get("decimal")):
        taken.pop("thousands", None)
    if taken.get("decimal") in (given.delimiter, given.thousands):
        taken.pop("decimal", None)
    for key in ("decimal", "dates"):
        if key in taken and shown[key] is None:
            _log.info("%s: %s as in the training tables: %s", table.path, key, _word(taken[key]))
    return replace(table, reading=replace(table.reading, dialect=replace(given, **taken))) if taken else table


def _has_quotes(path: Path, form: Form) -> bool:
    with open_text(path, form.encoding) as stream:
        return any('"' in line for line in islice(stream, SAMPLE))


def _known(path: Path, form: Form, columns: Sequence[str]) -> int:
    """Return how many of the columns a header has, if it is cut in this way."""
    _, header = next(form.records(path), (0, []))
    return len({name.strip() for name in header} & set(columns))


def _word(value: str) -> str:
    return "point" if value == "." else "of both kinds" if value == _BOTH else NAMES.get(value, value)
