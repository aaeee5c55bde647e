"""``fedray new``: a project that runs as it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedray.cli.study import FILES
from tests.cli.command import Cli


@pytest.fixture
def study(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new study, which is the working directory, as none of its modules had been imported."""
    monkeypatch.chdir(tmp_path)
    outcome = cli("new", "my study")
    assert (outcome.status, outcome.err) == (0, "")
    assert "cd 'my study' && fedray run config.yaml" in outcome.out
    monkeypatch.chdir(tmp_path / "my study")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my_data", "my_model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "my study"


def test_it_runs_at_once_and_learns(study: Path, cli: Cli) -> None:
    outcome = cli("run", "config.yaml", "cluster.name=inline", "rounds=5", "run.dir=run", "tracking=[]", "-q")
    assert (outcome.status, outcome.err) == (0, "")
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert records[-1]["test"].keys() >= {"accuracy", "auroc", "confidence"}
    assert records[-1]["test"]["accuracy"] > 0.7
    assert records[-1]["clients_test"]["confidence"]["mean"] > records[-1]["test"]["confidence"] / 2
    assert "my study" in Path("README.md").read_text()
    assert {path.name for path in study.iterdir()} - {"run", "__pycache__"} == set(FILES)


@pytest.mark.slow
def test_its_tests_pass_and_it_runs_on_ray(study: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for module in (["pytest", "-q"], ["fedray", "run", "config.yaml", "-q"]):
        ran = subprocess.run([sys.executable, "-m", *module], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_not_touched(kind: str, cli: Cli, tmp_path: Path) -> None:
    there = tmp_path / "there"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    cli("new", there).refused("exists already", "another name")
    assert not there.is_dir() or not any(there.iterdir())


def test_of_a_study_that_cannot_be_written_nothing_is_left(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    cli("new", tmp_path / "mine").refused("No space left")
    assert not (tmp_path / "mine").exists()
