"""Means and intervals over seeds; scipy is the oracle."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedray.core.terminal import plain
from fedray.sweep import Outcome, fitting, grid, in_words, interval, notes, numbers_of, tabulate, write_table
from fedray.sweep.table import student_quantile

# Two-sided 95 % points of Student's t, as printed in NIST/SEMATECH, e-Handbook of Statistical Methods, 1.3.6.7.2.
PRINTED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 60: 2.000, 100: 1.984}


@pytest.mark.parametrize(("freedom", "value"), PRINTED.items())
def test_quantiles_are_those_of_printed_tables(freedom: int, value: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(value, abs=5e-4)


@given(st.floats(0.51, 0.999))
def test_quantiles_of_one_and_two_degrees_have_a_closed_form(probability: float) -> None:
    """Of one it is Cauchy's distribution."""
    assert student_quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), rel=1e-9)
    centred = 2 * probability - 1
    assert student_quantile(probability, 2) == pytest.approx(centred * math.sqrt(2 / (1 - centred**2)), rel=1e-9)


@pytest.mark.slow
def test_the_command_line_does_without_scipy_until_there_is_a_table() -> None:
    code = "import sys, fedray.cli.app, fedray.cli.many, fedray.sweep; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_intervals_are_scipys(values: list[float]) -> None:
    found = interval({str(seed): value for seed, value in enumerate(values)})
    array = np.array(values)
    width = stats.t.interval(0.95, len(values) - 1, loc=0.0, scale=1.0)[1] * stats.sem(array)
    assert found.mean == pytest.approx(array.mean(), rel=1e-9, abs=1e-9)
    assert found.half_width == pytest.approx(width, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("value", [0.05, 0.1, 1 / 3, 1e300])
def test_values_that_are_all_the_same_have_no_spread(value: float) -> None:
    found = interval({"1": value, "2": value, "3": value})
    assert (found.mean, found.half_width) == (value, 0.0)


def test_one_value_has_no_interval_and_one_that_is_not_finite_no_mean() -> None:
    assert (interval({"1": 0.5}).mean, interval({"1": 0.5}).half_width) == (0.5, None)
    assert interval({"1": 0.5, "2": None}).mean is None
    assert interval({"1": 0.5, "2": math.nan}).mean is None


def test_seeds_of_one_setting_make_one_row(tmp_path: Path) -> None:
    cells = grid(["seed=1,2,3", "algorithm.mu=0,0.01"])
    accuracy: dict[str, list[float | None]] = {"0": [0.5, 0.6, 0.7], "0.01": [0.8, 0.9, None]}
    outcomes = []
    for cell in cells:
        settings = dict(cell.settings)
        value = accuracy[settings["algorithm.mu"]][int(settings["seed"]) - 1]
        outcomes.append(Outcome(cell, None if value is None else {"test.accuracy": value}))
    rows = tabulate(outcomes)
    assert [row.setting for row in rows] == [{"algorithm.mu": "0"}, {"algorithm.mu": "0.01"}]
    assert [(row.runs, row.failed, row.missing, row.wanted) for row in rows] == [(3, 0, 0, 3), (2, 0, 1, 3)]
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


def test_what_is_not_finished_is_counted_and_not_left_out(tmp_path: Path) -> None:
    one, two, three, four = grid(["seed=1,2", "x=a|b,c"])
    outcomes = [
        Outcome(one, {"test.loss": 0.25}),
        Outcome(two, failed=True),
        Outcome(three, failed=True),
        Outcome(four),
    ]
    rows = tabulate(outcomes)
    assert [(row.runs, row.failed, row.missing, row.wanted) for row in rows] == [(1, 1, 0, 2), (0, 1, 1, 2)]
    write_table(tmp_path, rows)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [re.split(r"\s+\|\s+", line.strip("| ")) for line in (lines[0], *lines[2:])] == [
        ["x", "runs", "test.loss"],
        ["a\\|b", "1/2, 1 failed", "0.25"],
        ["c", "0/2, 1 failed, 1 missing"],
    ]
    assert re.fullmatch(r"\|(-+\|){3}", lines[1])
    assert len({len(line) for line in lines}) == 1, "the columns stand below each other"
    with (tmp_path / "table.csv").open() as file:
        assert [(line["failed"], line["missing"]) for line in csv.DictReader(file)] == [("1", "0"), ("1", "1")]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_table(tmp_path, rows)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert sorted(before) == ["table.csv", "table.json", "table.md"]


def test_nothing_finished_is_a_table_too(tmp_path: Path) -> None:
    rows = tabulate([Outcome(cell) for cell in grid(["seed=1,2"])])
    assert [(row.setting, row.missing, row.wanted, row.metrics) for row in rows] == [({}, 2, 2, {})]
    write_table(tmp_path, rows)
    assert (tmp_path / "table.csv").read_text() == "runs,failed,missing,wanted,paused,earlier\n0,0,2,2,,0\n"


def test_algorithms_with_and_without_personal_models_have_a_column_in_common() -> None:
    spread = {"loss": {"mean": 0.6, "client_mean": 0.7, "worst": 0.9}} | {
        "accuracy": {"mean": 0.75, "client_mean": 0.5, "worst": 0.25}
    }
    plain, personal = (
        numbers_of({"clients_test": spread}),
        numbers_of({"clients_test": spread, "clients_personal": spread}),
    )
    one, two = grid(["algorithm.name=fedavg,ditto"])
    head, lines = in_words(tabulate([Outcome(one, plain), Outcome(two, personal)]))
    own = ["own.loss", "own.accuracy", "own.accuracy.worst"]
    views = [f"clients_{view}.{metric}" for view in ("test", "personal") for metric in ("loss", "accuracy")]
    assert head == ["algorithm.name", "runs", *own, *views]
    assert lines == [
        ["fedavg", "1/1", "0.7", "0.5", "0.25", "0.6", "0.75", "-", "-"],
        ["ditto", "1/1", "0.7", "0.5", "0.25", "0.6", "0.75", "0.6", "0.75"],
    ]
    assert [words.partition(":")[0] for words in notes(head, lines)] == ["-", "own", "clients_..."]
    alike = tabulate([Outcome(one, plain), Outcome(two, plain)])
    assert in_words(alike)[0] == ["algorithm.name", "runs", "clients_test.loss", "clients_test.accuracy"]
    values = {"own.accuracy.worst": 0.9}, {"own.accuracy.worst": 0.94}
    of_seeds = zip(grid(["seed=1,2"]), values, strict=True)
    assert tabulate([Outcome(*one) for one in of_seeds])[0].metrics["own.accuracy.worst"].mean == pytest.approx(0.92)


def test_a_cut_interval_is_explained_below_the_table() -> None:
    cells = grid(["algorithm.name=fedavg,ditto", "seed=1,2"])
    values = (0.9, 0.94, 0.5, 0.5)
    rows = tabulate([Outcome(cell, {"test.accuracy": value}) for cell, value in zip(cells, values, strict=True)])
    head, lines = in_words(rows)
    assert [line[-1] for line in lines] == ["0.92 [0.67, 1.00]", "0.5 ± 0"]
    assert [words.partition(":")[0] for words in notes(head, lines)] == ["[ ]"]


def test_a_table_shows_what_there_is_room_for_and_names_the_rest(tmp_path: Path) -> None:
    names = ("train.loss", "train.lr", "test.loss", "test.accuracy", "clients_test.loss", "clients_test.accuracy")
    cells = grid(["algorithm.name=fedavg,fedprox", "seed=1,2"])
    values = [dict.fromkeys(names, 0.5 + number / 7) for number in range(len(cells))]
    rows = tabulate([Outcome(cell, one) for cell, one in zip(cells, values, strict=True)])
    whole, left = fitting(rows, 1000)
    assert (list(whole.head), left) == (["algorithm.name", "runs", *names[2:], names[0]], [])  # a rate is no result
    for width in (160, 120, 100, 80, 70):
        table, left = fitting(rows, width)
        assert max(map(len, plain(table).splitlines())) <= width
        assert {*table.head[2:], *left} == {*whole.head[2:]}
    assert list(table.head) == ["algorithm.name", "runs", "test.accuracy", "clients_test.accuracy"]
    assert list(fitting(rows, 10)[0].head) == ["algorithm.name", "runs", "test.accuracy"]
    write_table(tmp_path, rows)
    assert "train.lr" in (tmp_path / "table.csv").read_text()
    assert "train.lr" not in in_words(rows)[0]
