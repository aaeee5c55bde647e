"""Rows of text from files: JSON lines, Parquet, and Arrow as Hugging Face data sets write it."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError, listed
from fedray.data.columns.paths import need_folder

KINDS = (".jsonl", ".json", ".parquet", ".arrow", ".feather")

Row = dict[str, Any]


def text_files(said: Any, key: str, without: Sequence[Path] = ()) -> list[Path]:
    """Return the files that a config names: a file, a folder, a pattern such as ``data/*.jsonl``, or a list of these.

    Those of a folder, or of a pattern, are in the order of their names.

    Args:
        said: the value of the key.
        key: the key, for errors.
        without: files of folders and patterns that are something else.

    Raises:
        ConfigError: there is no such file, or it is of another kind.
    """
    many = [said] if isinstance(said, str | Path) else said
    if not isinstance(many, Sequence) or not many or not all(isinstance(one, str | Path) for one in many):
        raise ConfigError(f"{key}: a file, a folder, a pattern such as data/*.jsonl, or a list of these, got {said!r}")
    skip = {one.resolve() for one in without}
    found: list[Path] = []
    for one in map(str, many):
        path = Path(one)
        if path.is_dir():
            more = [file for file in sorted(path.iterdir()) if file.suffix.lower() in KINDS]
        elif glob.has_magic(one) and not path.exists():
            # Path.glob takes no pattern that is absolute.
            more = sorted(map(Path, glob.iglob(one, recursive=True)))  # noqa: PTH207
        else:
            found.append(_known(path, key))
            continue
        more = [_known(file, key) for file in more if file.resolve() not in skip]
        if not more:
            need_folder(path.parent if glob.has_magic(one) else path)
            raise ConfigError(f"{key}: {one} has no file of text ({', '.join(KINDS)})")
        found += more
    twice = next((file for number, file in enumerate(found) if file in found[:number]), None)
    if twice is not None:
        raise ConfigError(f"{key}: {twice} is named twice; leave one of them out")
    return found


def _known(file: Path, key: str) -> Path:
    if not file.is_file():
        raise ConfigError(f"{key}: data file {file} does not exist (current folder: {Path.cwd()})")
    if file.suffix.lower() not in KINDS:
        raise ConfigError(f"{key}: {file} is no file of text that is known; those are {', '.join(KINDS)}")
    return file


def columns_in(file: Path) -> list[str]:
    """Return the columns of a file: of JSON, those of its first row.

    Raises:
        ConfigError: it cannot be read, or has no row.
    """
    return list(next(rows_in(file, None)))


def rows_in(file: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    """Yield the rows of a file, each with these columns; None: with those that it has.

    Raises:
        ConfigError: it cannot be read, has no row, or a row lacks a column, with the number of the row, from 1.
    """
    yield from having(_json(file) if "json" in file.suffix.lower() else _arrow(file, columns), str(file), columns)


def having(rows: Iterable[Row], where: str, columns: Sequence[str] | None) -> Iterator[Row]:
    """Yield of rows these columns; None: those that each has.

    >>> list(having([{"text": "Hi.", "id": 3}], "rows", ["text"]))
    [{'text': 'Hi.'}]

    Args:
        rows: the rows.
        where: their place, for errors.
        columns: the columns.

    Raises:
        ConfigError: there is no row, or one lacks a column, with its number, from 1.
    """
    number = 0
    for number, row in enumerate(rows, start=1):
        if columns is None:
            yield row
            continue
        for name in columns:
            if row.get(name) is None:
                there = "is empty" if name in row else f"is missing{nearest(name, row)}; the row has {listed(row)}"
                raise ConfigError(f"{where}, row {number}: column {name!r} {there}")
        yield {name: row[name] for name in columns}
    if not number:
        raise ConfigError(f"{where} has no rows")


def _json(file: Path) -> Iterator[Row]:
    """Yield the objects of lines, or of one list."""
    with file.open("rb") as lines:
        first = lines.read(1)
        while first.isspace():
            first = lines.read(1)
        lines.seek(0)
        if first == b"[":
            for number, row in enumerate(_parsed(file, lines.read(), "it"), start=1):
                yield _object(file, row, f"row {number}")
            return
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _object(file, _parsed(file, line, f"line {number}"), f"line {number}")


def _parsed(file: Path, text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}, {where}: no JSON: {error}; a row is an object on a line of its own") from None


def _object(file: Path, row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ConfigError(f'{file}, {where}: a row is an object, as in {{"text": "..."}}; this is {row!r:.40}')
    return row


def _arrow(file: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix.lower() == ".parquet":
            opened = pq.ParquetFile(file)
            names = opened.schema_arrow.names
            _need(file, names, columns)
            batches = opened.iter_batches(1024, columns=None if columns is None else list(columns))
        else:
            table = _table(pa, file)
            _need(file, table.column_names, columns)
            batches = iter((table if columns is None else table.select(list(columns))).to_batches(1024))
        for batch in batches:
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _need(file: Path, names: Sequence[str], columns: Sequence[str] | None) -> None:
    for name in columns or ():
        if name not in names:
            raise ConfigError(f"{file} has no column {name!r}{nearest(name, names)}; it has {listed(names)}")


def _table(pa: Any, file: Path) -> Any:
    """Return the table of an Arrow file, or of a stream, which is what data sets of Hugging Face are on the disk."""
    with pa.memory_map(str(file)) as source:
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()
