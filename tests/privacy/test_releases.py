"""Releases: what makes a kind, and who takes part in which round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.privacy.releases import Release


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_the_releases_of_rounds_are_those_of_each_round(turns: int, done: int, rounds: int) -> None:
    first = Release(2.0, 0.5, 1, "fixed", "zero_out", turns).after(done)
    singles = [first.after(i).turn for i in range(rounds)]
    assert {each.turn: each.count for each in first.over(rounds)} == {turn: singles.count(turn) for turn in singles}


@given(st.integers(1, 9), st.integers(0, 40))
def test_what_a_kind_is_written_down_by_is_the_kind(turns: int, done: int) -> None:
    release = Release(2.0, 0.5, 1, "fixed", "zero_out", turns).after(done)
    assert Release(**release.fields) == release  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"turns": 3, "turn": 3}, "turn=3: of 3 turns it is one from 0 to 2"),
        ({"sampling": "fixed"}, "relation=add_or_remove: coins are for one client there or not"),
        ({"relation": "replace_one"}, "sampling=poisson, relation=replace_one"),
        ({"count": -1}, "count=-1: a number of releases is at least 0"),
    ],
)
def test_what_is_out_of_range_is_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Release(2.0, **more)
