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


def test_a_partitioner_splits_by_the_label_or_else_by_a_single_target() -> None:
    by = [{}, {"target": "kind"}, {"target": "kind", "label": "who", "partitioner": IID(2)}, {"target": ["a", "b"]}]
    assert [TextOptions("bytes", **one).splits_by for one in by] == [None, "kind", "who", None]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clients": "author"}, r"clients: file, or {column: NAME} is needed, got 'author'"),
        ({"clients": {"column": "a"}, "partitioner": IID(2)}, "clients: the partitioner says whose a row is"),
        ({"label": "kind"}, "label: it is for a partitioner"),
        ({"max_length": 1}, "max_length: at least 2"),
        ({"packing": True}, "packing: it needs max_length"),
        ({"classes": ["a"]}, "classes: it is of the column of targets; name that"),
        ({"task": "regression"}, "task: it is of the column of targets"),
        ({"target": []}, "target: the name of a column is needed, or a list"),
        ({"target": ["a", "a"]}, "target: the name of a column is needed, or a list"),
        (
            {"target": "a", "packing": True, "max_length": 8},
            "packing: a text that has a target is an example by itself",
        ),
        ({"target": "a", "task": "binary"}, "task: 'binary' is unknown; known: auto"),
        ({"target": ["a", "b"], "classes": ["c"]}, "target: several columns are numbers"),
        ({"target": "a", "task": "regression", "classes": ["c"]}, "classes: a regression target has none"),
        ({"target": "a", "classes": [True, False]}, "YAML reads bare yes, no"),
        ({"target": "a", "classes": [1, "1"]}, "classes: a name is given twice"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextOptions("bytes", **options)
