"""The quickstart: it works, and what it did not write is safe from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedray.cli.quickstart import environment_to_activate, hospitals
from fedray.core.errors import ConfigError
from fedray.experiment.experiment import Experiment


class Reached(Exception):
    """Everything is written, and training would begin."""


def no_training(experiment: Experiment) -> None:
    raise Reached


@pytest.mark.parametrize("file", ["data/hospital_a.csv", "run/model.safetensors", "hospitals.yaml", "notes.txt"])
def test_what_no_quickstart_wrote_is_left_alone(tmp_path: Path, file: str) -> None:
    mine = tmp_path / "mine" / file
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work\n")
    with pytest.raises(ConfigError, match=r"^--dir: .*mine holds something that no quickstart wrote; choose a new"):
        hospitals(tmp_path / "mine", no_training)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "years of work\n"


def test_a_file_is_no_folder_for_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work\n")
    with pytest.raises(ConfigError, match="choose a new or an empty folder"):
        hospitals(tmp_path / "mine", no_training)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--dir: .*file/below cannot be written: Not a directory$"):
        hospitals(tmp_path / "file" / "below", no_training)


def test_an_earlier_quickstart_is_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Reached):
            hospitals(tmp_path, no_training)
        assert not (tmp_path / "run" / "earlier.txt").exists()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "earlier.txt").touch()


@pytest.mark.slow
def test_it_trains_and_compares(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fedray", "quickstart", "--dir", str(tmp_path / "first")]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [*(f"hospital_{letter} alone" for letter in "abcde"), "all data pooled in one place", "federated"]
    for row in rows:
        assert re.search(rf"{row}\W+\d+\W+[01]\.\d\d\d\W+[01]\.\d\d\d\W+\d+\.\d\d\d", ran.stdout), ran.stdout
    assert (tmp_path / "first" / "run" / "model.safetensors").is_file()


def test_the_environment_to_activate_is_named_where_the_commands_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert environment_to_activate() is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text("")
    assert environment_to_activate() == tmp_path / "bin" / "activate"
    (tmp_path / "bin" / "fedray").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "fedray").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert environment_to_activate() is None
