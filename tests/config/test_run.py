"""The section ``run``: which rounds are to be profiled."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.config.run import RunSection


@pytest.mark.parametrize(
    ("said", "rounds"), [(None, None), ("3-5", (3, 5)), (7, (7, 7)), ("7", (7, 7)), ("4-4", (4, 4))]
)
def test_rounds_are_one_or_from_one_to_another(said: Any, rounds: tuple[int, int] | None) -> None:
    assert RunSection(profile=said).profiled == rounds


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("5-3", "profile=5-3: rounds begin with 1, and the first comes before the last"),
        (0, "profile=0: rounds begin with 1"),
        (-1, "profile=-1: rounds are needed, such as 3-5, or 3"),
        ("all", "profile=all: rounds are needed"),
        (True, "profile=True: rounds are needed"),
        ("3-", "profile=3-: rounds are needed"),
    ],
)
def test_what_is_no_round_is_refused(said: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RunSection(profile=said)
