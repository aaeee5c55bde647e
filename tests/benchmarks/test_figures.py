"""A figure's verdict is what the README says it is."""

from __future__ import annotations

import doctest
import json
import statistics
from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures, machine, processes
from benchmarks.figures import HEADER, Figure, Goal, Spread, columns, markdown, shown

RATIO = Figure("tiny", "s/round", Goal(0.10, of="ratio"))
seconds = st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=7)


@pytest.mark.parametrize(("goal", "value", "met"), [(Goal(3.5), 3.5, True), (Goal(3.5), 3.51, False)])
def test_a_bound_is_met_when_reached(goal: Goal, value: float, met: bool) -> None:
    assert goal.met(value) is met
    assert replace(goal, at_least=True).met(value) is (value >= goal.bound)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=4))
def test_the_ratio_is_of_all_medians_and_its_range_of_pairs(pairs: list[tuple[list[float], list[float]]]) -> None:
    ours, theirs = [list(side) for side in zip(*pairs, strict=True)]
    figure = replace(RATIO, fedray=ours, bare=theirs)
    ratio = figure.ratio
    assert ratio is not None
    pooled = [statistics.median([value for run in side for value in run]) for side in (ours, theirs)]
    assert ratio.median == pytest.approx(pooled[0] / pooled[1])
    by_pair = sorted(statistics.median(a) / statistics.median(b) for a, b in pairs)
    assert (ratio.min, ratio.max) == pytest.approx((by_pair[0], by_pair[-1]))
    assert figure.verdict == ("ok" if ratio.median <= 0.10 else "missed")


def test_only_what_is_judged_decides() -> None:
    fast, slow = [[0.01]], [[1.0]]
    assert replace(RATIO, fedray=fast, bare=slow).verdict == "ok"
    assert replace(RATIO, fedray=slow, bare=fast).verdict == "missed"
    alone = Figure("startup", "s", Goal(10.0))
    assert replace(alone, fedray=[[9.0]]).verdict == "ok"
    assert replace(alone, fedray=[[11.0]], bare=[[1000.0]]).verdict == "missed"


def test_what_was_not_measured_has_failed() -> None:
    assert RATIO.verdict == "failed"
    assert replace(RATIO, fedray=[[0.01]]).verdict == "failed", "a ratio needs both sides"
    assert replace(RATIO, fedray=[[0.01]], bare=[[1.0]], error="it broke").verdict == "failed"


@given(st.floats(1e-6, 1e7))
def test_shown_keeps_three_digits(value: float) -> None:
    assert float(shown(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_markdown_rows_are_whole_and_json_keeps_every_value() -> None:
    both = [
        replace(RATIO, fedray=[[0.02, 0.03]], bare=[[0.2, 0.4, 0.3]], note="two\nlines"),
        replace(RATIO, name="a|b", error="exit status 1\nboom"),
    ]
    lines = markdown(both).splitlines()
    assert lines[2] == "| tiny (s/round) | 0.300 | 0.025 | 0.08 | <= 0.10 x bare | ok |"
    assert lines[3].startswith(r"| a\|b (s/round) | - | - | - |")
    assert "- **tiny**: two lines" in lines
    assert "- **a|b**: exit status 1 boom" in lines
    assert len(columns(both[0])) == len(HEADER)
    read = json.loads(json.dumps(both[0].to_json()))
    assert read["runs"] == {"fedray": [[0.02, 0.03]], "bare": [[0.2, 0.4, 0.3]]}
    assert Spread(**read["bare"]) == Spread(0.3, 0.2, 0.4)


@pytest.mark.parametrize("module", [figures, machine, processes])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
