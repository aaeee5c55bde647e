"""Options of text: whose a row is, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data.partition import IID, Column
from fedray.data.text.options import TextOptions


def test_whose_a_row_is_is_said_in_one_of_four_ways() -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"clients": {"column": "who"}},
        {"partitioner": Column("who")},
        {"partitioner": IID(2)},
    ]
    found = [TextOptions("bytes", **way) for way in ways]
    assert [(one.by_file, one.column) for one in found] == [(True, None), (False, "who"), (False, "who"), (False, None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clients": "author"}, r"clients: file, or {column: NAME} is needed, got 'author'"),
        ({"clients": {"column": "a"}, "partitioner": IID(2)}, "clients: the partitioner says whose a row is"),
        ({"label": "kind"}, "label: it is for a partitioner"),
        ({"max_length": 1}, "max_length: at least 2"),
        ({"packing": True}, "packing: it needs max_length"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextOptions("bytes", **options)
