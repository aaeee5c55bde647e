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


def test_six_pairs_are_judged_by_their_median_and_show_its_interval() -> None:
    # The machine was slow for three pairs, and for one side in the last: by all medians it would be 1.02, and met.
    bare, ratios = [1.0, 1.0, 1.0, 1.9, 1.9, 1.9], [1.12, 1.13, 1.14, 1.12, 1.13, 0.96]
    ours = [one * ratio for one, ratio in zip(bare, ratios, strict=True)]
    figure = replace(RATIO, goal=Goal(1.1, of="ratio"), fedray=[[one] for one in ours], bare=[[one] for one in bare])
    assert statistics.median(ours) / statistics.median(bare) < 1.1
    assert figure.ratio is not None
    assert (figure.ratio.median, figure.ratio.min, figure.ratio.max) == pytest.approx((1.125, 0.96, 1.14))
    assert figure.verdict == "missed"
    assert figure.bounds == pytest.approx((0.96, 1.14))
    assert columns(figure)[4] == "1.12 (0.96 to 1.14)"
    assert figure.to_json()["interval"] == figure.bounds
    fewer = replace(figure, fedray=figure.fedray[:-1], bare=figure.bare[:-1])
    assert fewer.bounds is None
    assert " to " not in columns(fewer)[3]


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=4))
def test_the_ratio_of_few_pairs_is_of_all_medians_and_its_range_of_pairs(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
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
        replace(RATIO, fedray=[[0.02, 0.03]], bare=[[0.2, 0.4, 0.3]], note="two\nlines", best=0.25),
        replace(RATIO, name="a|b", error="exit status 1\nboom"),
    ]
    lines = markdown(both).splitlines()
    assert lines[2] == "| tiny (s/round) | 0.300 | 0.250 | 0.025 | 0.08 | <= 0.10 x bare | ok |"
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
