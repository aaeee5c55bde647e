"""The log of a run, as it is and as it grows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.experiment.logs import lines
from fedray.rundir.lock import Owner
from fedray.rundir.names import LOCK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder of a run that has not begun."""
    (tmp_path / "config.yaml").write_text("rounds: 9\n")
    return tmp_path


def test_what_is_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no log yet: the run has not begun"):
        list(lines(folder))
    (folder / "slurm-7.log").write_text("waiting for nodes\n")
    assert list(lines(folder)) == ["waiting for nodes"]
    (folder / "log.txt").write_text("one\n\ntwo\nthr")
    assert list(lines(folder)) == ["one", "", "two"], "a line is shown when it is whole"


def test_it_is_followed_to_the_end_of_the_run(folder: Path) -> None:
    def begin() -> None:
        (folder / "log.txt").write_text("one\ntw")
        (folder / LOCK).write_text(json.dumps(asdict(Owner.me())))

    def end() -> None:
        (folder / "log.txt").write_text("one\ntwo\nthree\n")
        (folder / "summary.json").write_text('{"status": "finished"}')
        (folder / LOCK).unlink()

    happens = iter([begin, end])
    assert list(lines(folder, follow=True, pause=lambda _: next(happens)())) == ["one", "two", "three"]
    assert next(happens, None) is None


def test_the_workers_are_told_apart(folder: Path) -> None:
    (folder / "log.txt").touch()
    with pytest.raises(ConfigError, match="its workers have written nothing"):
        list(lines(folder, workers=True))
    (folder / "workers").mkdir()
    for name in ("a-0", "a-1"):
        (folder / "workers" / f"{name}.log").write_text(f"hello from {name}\n")
    assert list(lines(folder, workers=True)) == ["a-0: hello from a-0", "a-1: hello from a-1"]
