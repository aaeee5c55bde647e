"""Means and intervals over seeds; scipy is the oracle."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedray.sweep import grid, interval, tabulate, write_table
from fedray.sweep.table import student_quantile


@given(st.integers(1, 400), st.floats(0.51, 0.9999))
def test_quantiles_are_scipys(freedom: int, probability: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-8)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_intervals_are_scipys(values: list[float]) -> None:
    found = interval({str(seed): value for seed, value in enumerate(values)})
    array = np.array(values)
    width = stats.t.interval(0.95, len(values) - 1, loc=0.0, scale=1.0)[1] * stats.sem(array)
    assert found.mean == pytest.approx(array.mean(), rel=1e-9, abs=1e-9)
    assert found.half_width == pytest.approx(width, rel=1e-6, abs=1e-9)


def test_one_value_has_no_interval_and_one_that_is_not_finite_no_mean() -> None:
    assert (interval({"1": 0.5}).mean, interval({"1": 0.5}).half_width) == (0.5, None)
    assert interval({"1": 0.5, "2": None}).mean is None
    assert interval({"1": 0.5, "2": math.nan}).mean is None


def test_seeds_of_one_setting_make_one_row(tmp_path: Path) -> None:
    cells = grid(["seed=1,2,3", "algorithm.mu=0,0.01"])
    accuracy: dict[str, list[float | None]] = {"0": [0.5, 0.6, 0.7], "0.01": [0.8, 0.9, None]}
    results = []
    for cell in cells:
        settings = dict(cell.settings)
        value = accuracy[settings["algorithm.mu"]][int(settings["seed"]) - 1]
        results.append((cell, None if value is None else {"test.accuracy": value}))
    rows = tabulate(results)
    assert [row.setting for row in rows] == [{"algorithm.mu": "0"}, {"algorithm.mu": "0.01"}]
    assert [(row.runs, row.wanted) for row in rows] == [(3, 3), (2, 3)]
    first = rows[0].metrics["test.accuracy"]
    assert first.mean == pytest.approx(0.6)
    assert first.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert rows[1].metrics["test.accuracy"].values == {"1": 0.8, "2": 0.9}

    write_table(tmp_path, rows)
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["algorithm.mu"] for line in lines] == ["0", "0.01"]
    assert float(lines[1]["test.accuracy"]) == pytest.approx(0.85)
    assert float(lines[0]["test.accuracy.ci95"]) == first.half_width
    assert json.loads((tmp_path / "table.json").read_text())[1]["runs"] == 2


def test_nothing_finished_is_a_table_too(tmp_path: Path) -> None:
    rows = tabulate([(cell, None) for cell in grid(["seed=1,2"])])
    assert [(row.setting, row.runs, row.wanted, row.metrics) for row in rows] == [({}, 0, 2, {})]
    write_table(tmp_path, rows)
    assert (tmp_path / "table.csv").read_text() == "runs,wanted\n0,2\n"
