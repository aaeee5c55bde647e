"""Runs read from their folders, and grouped by what they compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.report.told import read_runs, settings_of
from tests.report.folders import NOW, told, write_run


def test_runs_that_differ_in_seed_and_place_alone_are_one_setting(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"s{seed}", seed, config=f"cluster: {{workers: {seed}}}\n") for seed in (10, 2)]
    (one,) = settings_of(told(*folders))
    assert [run.seed for run in one.runs] == ["2", "10"]
    assert (one.label, one.differs) == ("heart", {})


def test_settings_are_told_apart_by_as_few_words_as_do(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", algorithm="fedavg"),
        write_run(tmp_path / "b", algorithm="fedprox", config="mu: 1\n"),
        write_run(tmp_path / "c", algorithm="fedprox", config="mu: 2\n"),
    ]
    assert [one.label for one in settings_of(told(*runs))] == ["fedavg", "fedprox, mu=1", "fedprox, mu=2"]
    assert [one.label for one in settings_of(told(*runs[:2]))] == ["fedavg", "fedprox"]
    assert settings_of(told(*runs))[1].differs == {"algorithm.name": "fedprox", "mu": "1"}


def test_keys_with_the_same_last_word_are_named_in_full(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{n}", config=f"local: {{lr: {a}}}\nserver: {{lr: {b}}}\n")
        for n, (a, b) in enumerate([(1, 1), (1, 2), (2, 2)])
    ]
    labels = [one.label for one in settings_of(told(*runs))]
    assert labels == ["local.lr=1, server.lr=1", "local.lr=1, server.lr=2", "local.lr=2, server.lr=2"]


def test_runs_from_python_are_runs(tmp_path: Path) -> None:
    for seed in (1, 2):
        folder = write_run(tmp_path / f"p{seed}", seed)
        (folder / "config.yaml").write_text(f"python:\n  seed: {seed}\n  rounds: 4\n  run_dir: {folder}\n  lr: 0.1\n")
    (one,) = settings_of(told(tmp_path / "p1", tmp_path / "p2"))
    assert [run.seed for run in one.runs] == ["1", "2"]


def test_a_series_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    (run,) = told(write_run(tmp_path / "a", rounds=2, test={"loss": None}))
    assert run.series("test", "loss") == {}
    assert run.series("clients_test", "accuracy", "worst") == {1: 0.25, 2: 0.25}
    assert run.final == {
        "test.loss": None,
        "own.accuracy": 0.5,
        "own.accuracy.worst": 0.25,
        "clients_test.accuracy": 0.5,
        "clients_personal.accuracy": 0.5,
        "train.loss": 0.5,
    }


def test_a_folder_of_runs_stands_for_them_and_none_is_read_twice(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "b", 2)
    write_run(tmp_path / "runs" / "a", 1)
    found = read_runs([tmp_path / "runs", tmp_path / "runs" / "a"], NOW)
    assert [run.folder.name for run in found] == ["a", "b"]


def test_where_there_is_no_run_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read_runs([tmp_path / "none"], NOW)
    with pytest.raises(ConfigError, match="no run in it"):
        read_runs([tmp_path], NOW)


def test_a_run_folder_is_that_run_also_where_others_lie_in_it(tmp_path: Path) -> None:
    """As earlier versions made them; the folder above has all."""
    outer = write_run(tmp_path / "runs" / "heart")
    inner = write_run(outer / "2026")
    assert [run.folder for run in read_runs([outer], NOW)] == [outer]
    assert [run.folder for run in read_runs([outer.parent], NOW)] == [outer, inner]
