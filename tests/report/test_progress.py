"""Curves over rounds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedray.core.record import SPREAD
from fedray.report.progress import metrics_of, over_seeds, progress_charts
from fedray.report.told import settings_of
from tests.report.folders import told, write_run


def test_the_interval_is_that_of_student() -> None:
    values = np.array([[0.5, 0.7], [0.6, 0.9], [0.55, 0.75]])
    curve = over_seeds("x", [{1: row[0], 5: row[1]} for row in values.tolist()])
    for place in range(2):
        column = values[:, place]
        low, high = stats.t.interval(0.95, 2, loc=column.mean(), scale=stats.sem(column))
        assert (curve.low[place], curve.y[place], curve.high[place]) == pytest.approx((low, column.mean(), high))
    assert list(curve.x) == [1, 5]


def test_rounds_that_not_all_seeds_have_are_left_out() -> None:
    assert over_seeds("x", [{1: 0.5, 2: 0.6}, {2: 0.8, 3: 0.9}]).x == [2]
    assert over_seeds("x", [{1: 0.5}, {2: 0.8}]).y == []


def test_one_run_shows_how_its_clients_spread(tmp_path: Path) -> None:
    charts = {chart.name: chart for chart in progress_charts(settings_of(told(write_run(tmp_path / "a"))))}
    assert list(charts) == [
        "test-accuracy",
        "test-loss",
        "clients-test-accuracy",
        "clients-test-accuracy-worst",
        "clients-personal-accuracy",
        "clients-personal-accuracy-worst",
        "train-loss",
    ]
    every, median = charts["clients-test-accuracy"].curves
    assert (every.name, list(every.y), list(every.low)) == ("all rows together", [0.5] * 4, [])
    assert (list(median.low), list(median.y), list(median.high)) == ([0.25] * 4, [0.5] * 4, [0.75] * 4)
    caption = charts["clients-test-accuracy"].caption
    assert caption.endswith("(clients_test.accuracy); the band: 10th to 90th percentile of clients.")
    assert {name: chart.y for name, chart in charts.items()} == {
        "test-accuracy": "test.accuracy",
        "test-loss": "test.loss",
        "clients-test-accuracy": "clients_test.accuracy",
        "clients-test-accuracy-worst": "clients_test.accuracy.worst",
        "clients-personal-accuracy": "clients_personal.accuracy",
        "clients-personal-accuracy-worst": "clients_personal.accuracy.worst",
        "train-loss": "train.loss",
    }
    (curve,) = charts["test-accuracy"].curves
    assert curve.y == pytest.approx([0.11, 0.21, 0.31, 0.41])
    assert not math.isnan(sum(curve.y))
    assert not curve.low


def test_seeds_have_an_interval_and_settings_a_curve_each(tmp_path: Path) -> None:
    names = [("fedavg", 1), ("fedavg", 2), ("ditto", 1)]
    settings = settings_of(told(*(write_run(tmp_path / f"{name}{seed}", seed, name) for name, seed in names)))
    chart = next(iter(progress_charts(settings)))
    assert [curve.name for curve in chart.curves] == ["fedavg", "ditto"]
    assert [len(curve.low) for curve in chart.curves] == [4, 0]
    assert "95 % confidence interval" in chart.caption
    assert metrics_of(settings, "train") == ["loss"]


def test_algorithms_with_and_without_personal_models_share_a_chart(tmp_path: Path) -> None:
    spread = dict.fromkeys(SPREAD, 0.5)
    shared = {"auroc": spread | {"client_mean": 0.25}}
    plain = write_run(tmp_path / "a", 1, "fedavg", clients_test=shared, clients_personal={})
    own = {"auroc": spread | {"client_mean": 0.75}}
    personal = write_run(tmp_path / "b", 1, "ditto", clients_test={"auroc": spread}, clients_personal=own)
    charts = {chart.name: chart for chart in progress_charts(settings_of(told(plain, personal)))}
    common = charts["own-auroc"]
    assert [(curve.name, curve.y[-1]) for curve in common.curves] == [("fedavg", 0.25), ("ditto", 0.75)]
    assert "mean over clients (own.auroc)" in common.caption
    worst = charts["own-auroc-worst"]
    assert [(curve.name, curve.y[-1]) for curve in worst.curves] == [("fedavg", 0.5), ("ditto", 0.5)]
    assert "the tenth of the clients that fares worst (own.auroc.worst)" in worst.caption
    assert "own-auroc" not in {chart.name for chart in progress_charts(settings_of(told(personal)))}


def test_a_setting_without_a_curve_has_no_name_in_the_legend(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{seed}", seed) for seed in (1, 2)]
    for run, kept in zip(runs, (slice(0, 1), slice(1, 4)), strict=True):  # no round is in both seeds
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(lines[kept]))
    charts = list(progress_charts(settings_of(told(*runs, write_run(tmp_path / "3", 1, "ditto")))))
    assert {curve.name for chart in charts for curve in chart.curves} == {"ditto"}
