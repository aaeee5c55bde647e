"""``encoding.json``: the place of an encoding, and a test table read by it alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.data.columns.rows import Examples
from fedray.data.encoding import questions
from fedray.data.encoding.check import check_columns
from fedray.data.encoding.clients import TestTables
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.fit import found_in, unseen_in
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_table

_log = logging.getLogger("fedray")

Saved = Mapping[str, Any] | str | Path
"""An encoding as ``encoding.json`` holds it, or that file's path."""


def load_encoding(saved: Saved | None) -> Encoding | None:
    """Return the encoding that a file or a mapping holds, or None for none.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    if saved is None:
        return None
    if isinstance(saved, Mapping):
        return Encoding.from_json(saved)
    try:
        content = json.loads(Path(saved).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoding: {saved} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"encoding: {saved} is no encoding.json")
    return Encoding.from_json(content)


def encoded_test(tests: Sequence[Path], options: Options, encoding: Encoding, column: str | None = None) -> Examples:
    """Read the tables of a test set; nothing but the encoding is needed for it.

    Raises:
        ConfigError: the table cannot be read, or the encoding does not fit it or the options.
    """
    encoding.need(options)
    tables = [read_table(test, options.reading(test)) for test in tests]
    outlines = [questions.outline(table) for table in tables]
    check_columns([], outlines, options, column, encoding)
    notes = found_in(outlines, encoding)
    if encoding.options.unseen == "other":
        notes += unseen_in(outlines, [encoding.unseen(table) for table in tables], encoding)
    for note in notes:
        _log.info("%s", note)
    read = TestTables(tables).encoded(encoding)
    assert read is not None
    return read
