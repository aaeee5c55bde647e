"""The options of a search, and which settings go on from a rung."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.sweep import Search, grid
from fedray.sweep.search import Setting

AXES = ["seed=1,2", "local.optimizer.lr={log_uniform: [1e-3, 1]}", "local.epochs=1,2,4"]


def test_more_trials_begin_with_those_of_fewer() -> None:
    few, more = (Search(trials=trials).cells(AXES, ()) for trials in (3, 6))
    assert [cell.settings for cell in more[:6]] == [cell.settings for cell in few]
    assert [dict(cell.settings)["seed"] for cell in few] == ["1", "2"] * 3
    assert [cell.number for cell in more] == list(range(12))
    assert Search(trials=3, seed=1).cells(AXES, ())[0].settings != few[0].settings


def test_a_setting_that_is_drawn_twice_is_run_once() -> None:
    cells = Search(trials=50).cells(["local.epochs=1,2"], ())
    assert sorted(cell.name for cell in cells) == ["local.epochs=1", "local.epochs=2"]


def test_without_trials_it_is_the_grid() -> None:
    assert Search().cells(["seed=1,2", "local.epochs=1,3"], ()) == tuple(grid(["seed=1,2", "local.epochs=1,3"]))
    with pytest.raises(ConfigError, match="say how many with --trials"):
        Search().cells(AXES, ())
    with pytest.raises(ConfigError, match="there is nothing to draw"):
        Search(trials=2).cells(["seed=1,2"], ())


VALUES = st.lists(st.one_of(st.none(), st.just(math.nan), st.integers(-5, 5).map(float)), min_size=1, max_size=12)


@given(VALUES, st.lists(st.integers(-5, 5).map(float), max_size=6), st.integers(2, 4), st.booleans())
def test_the_better_ones_go_on(values: list[float | None], before: list[float], factor: int, more: bool) -> None:
    search = Search(by="test.score", mode="max" if more else "min", rungs=(1,), factor=factor)
    named: dict[Setting, float | None] = {(("k", str(i)),): value for i, value in enumerate(values)}
    on = search.better(named, before)
    assert on == [one for one in named if one in on]
    room = max(1, (len(values) + len(before)) // factor)
    assert len(on) <= room
    sign = -1 if more else 1
    for one, value in named.items():
        if value is None or math.isnan(value):
            assert one not in on
        elif one not in on:  # so many are as good, at least
            others = [*before, *(other for other in named.values() if other is not None and not math.isnan(other))]
            assert sum(sign * other <= sign * value for other in others) > room


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "--trials 0: at least 1"),
        ({"sampler": "tpe", "by": "test.loss"}, "say how many with --trials"),
        ({"rungs": (3,)}, "--by: settings are compared by a metric"),
        ({"rungs": (3, 2), "by": "test.loss"}, "rounds are needed that rise"),
        ({"rungs": (0,), "by": "test.loss"}, "rounds are needed that rise"),
        ({"rungs": (1,), "by": "accuracy"}, "--by: metric=accuracy: it must be one of"),
        ({"factor": 1}, "--factor 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Search(**options)


def test_it_is_read_back() -> None:
    search = Search(trials=3, by="test.loss", rungs=(2, 4), seed=7)
    assert Search.from_json(search.to_json()) == search
