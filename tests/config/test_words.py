"""Values that an option cannot hold, as a user has written them: no type of Python or OmegaConf is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from fedray.config.binding import bind
from fedray.core.errors import ConfigError


@dataclass(frozen=True)
class Within:
    """A section."""

    r: int = 1


@dataclass(frozen=True)
class Options:
    """A field of every kind, with and without a default."""

    names: list[str]
    count: int = 1
    share: float = 0.5
    before: bool = False
    path: str = ""
    sizes: list[int] = field(default_factory=list)
    work: dict[str, int] | None = None
    left_out: dict[int, list[str]] = field(default_factory=dict)
    packing: bool | str = False
    many: int | str | None = None
    kind: Literal["thin", "thick"] = "thin"
    within: Within | None = None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"count": None}, "count: expected a whole number, got null"),
        ({"share": None}, "share: expected a number, got null"),
        ({"before": None}, "before: expected true or false, got null"),
        ({"path": None}, "path: expected a text, got null"),
        ({"names": None}, "names: expected a value, got null"),
        ({"names": [None]}, r"names\[0\]: expected a value, got null"),
        ({"path": ["y"]}, r"path: expected a text, got \['y'\]"),
        ({"sizes": [[5]]}, r"sizes\[0\]: expected a whole number, got \[5\]"),
        ({"sizes": [3, {"a": 1}]}, r"sizes\[1\]: expected a whole number, got \{'a': 1\}"),
        ({"work": []}, r"work: expected a section with keys, got \[\]"),
        ({"left_out": {1: 3}}, r"left_out\.1: expected a list, got 3"),
        ({"left_out": {"a": ["x"]}}, r"left_out\.a: the key must be a whole number, got 'a'"),
        (
            {"count": np.int64(3)},
            r"count: expected a plain value, .*, got one of type int64 \(of NumPy's: \.item\(\)\)",
        ),
        ({"packing": 3}, "packing: expected true or false, or a text, got 3"),
        ({"packing": None}, "packing: expected true or false, or a text, got null"),
        ({"packing": [1]}, r"packing: expected true or false, or a text, got \[1\]"),
        ({"many": 2.5}, "many: expected a whole number, or a text, got 2.5"),
        ({"kind": None}, "kind: expected one of thin, thick, got null"),
        ({"within": 3}, "within: expected a section with keys, got 3"),
        ({"within": ["r"]}, r"within: expected a section with keys, got \['r'\]"),
        ({"count": "1e3"}, "count: expected a whole number, got '1e3'"),
    ],
)
def test_what_is_expected_is_said_in_plain_words(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.{words}$"):
        bind(Options, {"names": [], **said}, "x")
