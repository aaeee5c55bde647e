"""What a search draws: within its range, as often as it should, and each draw by its name alone."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedray.config.layers import _parse_overrides
from fedray.core.errors import ConfigError
from fedray.sweep.space import RANGES, Choice, Range, draw, ranged, space_of


@given(st.sampled_from(RANGES), st.integers(1, 50), st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_in_its_range_and_is_read_as_the_number_that_it_is(
    kind: str, low: int, width: int, place: float
) -> None:
    one = Range(kind, float(low), float(low + width))
    text = one.at(place)
    (value,) = _parse_overrides([f"a={text}"]).values()
    assert low <= value <= low + width
    assert isinstance(value, int) == one.whole
    assert yaml.safe_load(text) == value or "e" in text


def test_draws_are_spread_as_they_say() -> None:
    space: dict[str, Range | Choice] = {
        "a": Range("log_uniform", 1e-4, 1.0),
        "b": Range("integers", 1, 4),
        "c": Choice(("x", "y")),
    }
    drawn = [draw(space, trial, seed=1) for trial in range(1000)]
    logs = [math.log10(float(one["a"])) / 4 + 1 for one in drawn]
    assert stats.kstest(logs, "uniform").pvalue > 0.01
    for key, values in (("b", "1234"), ("c", "xy")):
        counts = [sum(one[key] == value for one in drawn) for value in values]
        assert stats.chisquare(counts).pvalue > 0.01
    assert abs(stats.spearmanr(logs, [int(one["b"]) for one in drawn]).statistic) < 0.1


def test_a_draw_depends_on_seed_trial_and_key_alone() -> None:
    a, b = Range("uniform", 0.0, 1.0), Range("uniform", 0.0, 1.0)
    one = draw({"a": a, "b": b}, trial=2, seed=5)
    assert draw({"b": b, "a": a}, trial=2, seed=5) == one
    assert draw({"b": b}, trial=2, seed=5) == {"b": one["b"]}
    assert len({one["a"], one["b"], draw({"a": a}, 3, 5)["a"], draw({"a": a}, 2, 6)["a"]}) == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["{uniform: [1, 0]}"], "the first number must be below"),
        (["{uniform: 3}"], "it must be two numbers"),
        (["{log_uniform: [0, 1]}"], "above 0"),
        (["{integers: [1, 2.5]}"], "whole numbers"),
        (["{integers: [1, 3]}", "7"], "a range stands alone, as in 'k={integers: [1, 8]}'"),
        (["{uniform: [0, .nan]}"], "the first number must be below"),
    ],
)
def test_a_wrong_range_says_what_is_right(values: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[").replace("{", r"\{").replace("}", r"\}")):
        ranged("k", values)


def test_seeds_are_no_range_and_a_part_is_no_range() -> None:
    with pytest.raises(ConfigError, match="seed: a list is needed"):
        space_of({"seed": "{integers: [1, 9]}"})
    assert ranged("model", ["{name: mlp, hidden: [4]}"]) is None
