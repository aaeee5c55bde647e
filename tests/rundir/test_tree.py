"""Run folders among others: none is made within another, and those that earlier versions made so are found."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir import tree
from fedray.rundir.tree import SWEEPS, check_apart, check_writable, find_runs, folder_of, is_run, new_folder


def run(folder: Path) -> Path:
    """The folder of a run that has begun."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl", "log.txt"):
        (folder / name).write_text("")
    return folder


def test_run_folders_are_found_within_others_but_not_among_what_a_run_keeps(tmp_path: Path) -> None:
    within = [run(tmp_path / "a" / "2026"), run(tmp_path / "a" / "compare" / "fedavg")]
    outer, other = run(tmp_path / "a"), run(tmp_path / "b" / "one")
    run(tmp_path / "a" / "checkpoints" / "inner")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config.yaml").write_text("rounds: 1\n")  # a config of a user's, and no run
    assert list(find_runs(tmp_path)) == [outer, *within, other]
    assert list(find_runs(tmp_path / "a")) == [outer, *within]
    assert list(find_runs(tmp_path, 1)) == [outer]
    assert not is_run(tmp_path / "configs")


def test_a_new_run_lies_in_no_other_and_around_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(Path("runs/heart"))
    check_apart(Path("runs/heart-2"))
    check_apart(Path("runs/lung/2026"))
    for folder in ("runs/heart/2026", "runs/heart/compare/fedavg"):
        with pytest.raises(
            ConfigError, match=rf"^run folder {folder}: it lies within that of another run, .*runs/heart;"
        ):
            check_apart(Path(folder))
    run(Path("runs/lung/compare/fedavg"))
    for folder in ("runs", "runs/lung", "runs/lung/compare"):
        with pytest.raises(ConfigError, match=rf"^run folder {folder}: other runs lie in it, such as {folder}/"):
            check_apart(Path(folder))


def test_a_project_with_a_config_and_checkpoints_of_its_own_is_no_run(tmp_path: Path) -> None:
    project = tmp_path / "work" / "project"
    (project / "checkpoints").mkdir(parents=True)
    (project / "config.yaml").write_text("rounds: 1\n")
    check_apart(project / "runs" / "first")
    check_apart(tmp_path / "work")


def test_what_has_no_place_named_lies_beside_a_run_that_is_called_like_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (folder_of("heart"), folder_of("heart", SWEEPS)) == (Path("runs/heart"), Path("sweeps/heart"))
    run(Path("runs/heart"))
    run(Path("runs/heart-2"))
    assert (folder_of("heart"), folder_of("heart", SWEEPS)) == (Path("runs/heart-3"), Path("sweeps/heart"))
    assert new_folder("heart").parent == Path("runs/heart-3")


def test_two_runs_of_a_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2026, 1, 2, 12)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tree, "datetime", Noon)
    made = []
    for _ in range(3):
        folder = new_folder("heart")
        folder.mkdir(parents=True)
        made.append(folder.name)
    assert made == ["2026-01-02_12-00-00", "2026-01-02_12-00-00-2", "2026-01-02_12-00-00-3"]


def test_where_nobody_can_write_no_run_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator may write anywhere, so the answer of the system is that for another account."""
    locked = tmp_path / "locked"
    locked.mkdir()
    check_writable(locked / "deep" / "run")
    told = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: told(path, mode) and (path != locked or mode == os.F_OK))
    check_writable(tmp_path / "run")
    for folder in (locked, locked / "deep" / "run"):
        with pytest.raises(ConfigError, match=rf"^run\.dir: {folder} cannot be written: {locked} is read-only here"):
            check_writable(folder)
    assert list(locked.iterdir()) == []
