"""The grid that judges ``local.stack: auto``: what a figure says, and a line of it for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import interval
from benchmarks.stacks import GRID, PRETRAINED, Line, Measured, measure, page

SEEN = Measured("a model", 10, 4, 2.0, 1.0, 0.5, 0.4, 0.6, "stacked", "small")


def test_a_wrong_choice_costs_what_the_better_one_would_have_saved() -> None:
    assert SEEN.loss == 1.0
    assert replace(SEEN, auto="alone").loss == 2.0
    assert "| 0.50 (0.40 to 0.60) | 2.0 | alone | 2.00 (missed) |" in page([replace(SEEN, auto="alone")], 30)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_a_median_lies_in_its_interval(values: list[float]) -> None:
    low, high = interval(values)
    assert sum(value < low for value in values) <= len(values) / 2
    assert sum(value > high for value in values) <= len(values) / 2


def test_the_interval_narrows_with_more_pairs() -> None:
    # From tables of the sign test: ranks of the 95 % interval for 10, 30 and 50 values.
    assert [interval(range(1, count + 1)) for count in (10, 30, 50)] == [(2, 9), (10, 21), (18, 33)]


def test_a_stack_is_to_be_as_fast_as_was_asked() -> None:
    assert replace(SEEN, faster=2.0).met
    slow = replace(SEEN, faster=2.5)
    assert not slow.met
    assert "| 2.0, 2.5 wanted | stacked | 1.00 (missed) |" in page([slow], 30)


@pytest.mark.parametrize("line", PRETRAINED[:6], ids=lambda line: line.name)
@pytest.mark.one_in(3)
def test_models_of_transformers_go_in_lanes_of_eight(line: Line, tmp_path: Path) -> None:
    found = measure(line, 1, tmp_path)
    assert found.size == 8
    assert found.faster in (2.2, 2.5)
    assert found.auto != "alone"


def test_a_line_for_real(tmp_path: Path) -> None:
    found = measure(GRID[1], 1, tmp_path)
    assert found.auto == "stacked"
    assert 0 < found.ratio == found.low == found.high
