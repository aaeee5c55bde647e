"""The command line in this process: fast, and with its exit status and output at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedray.cli import main
from tests.cli.command import SMALL, Cli, Outcome


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Call the command with arguments."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fedray", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        status = ended.value.code
        assert status is None or isinstance(status, int)
        return Outcome(status or 0, out, err)

    return call


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of a run of milliseconds, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path
