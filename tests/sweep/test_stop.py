"""A sweep is stopped by its folder: what waits is cancelled first, so that nothing begins behind one's back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.slurm.requeue import HISTORY, History
from fedray.slurm.stages import Waiting
from fedray.sweep import Search, Sweep
from fedray.sweep.stop import stop_sweep
from tests.cli.command import SMALL
from tests.slurm.pretended import Slurm


def test_all_that_waits_and_runs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{slurm.folder}:{os.environ['PATH']}")
    (tmp_path / "small.yaml").write_text(SMALL)
    search = Search(by="test.loss", rungs=(2,))
    sweep = Sweep.of(tmp_path / "small.yaml", ["local.epochs=1,2,3"], tmp_path / "sweep", search)
    sweep.begin()
    for place, cell in enumerate(sweep.cells[:2]):  # the third never began
        sweep.claim(cell)
        History(f"11_{place}").write(sweep.run_folder(cell).path / HISTORY)
    Waiting(12, tuple(cell.name for cell in sweep.cells), 2).write(sweep.folder)
    for job in ("11", "12"):
        (slurm.folder / job).write_text("PENDING")
    told: list[str] = []
    ended = stop_sweep(sweep, told.append)
    assert ended.saved
    assert ended.text == f"stopped 2 runs; go on with: fedray sweep {sweep.folder} --slurm"
    assert told[0] == "job 12, which would have submitted the next stage: cancelled"
    # Of an array the first one that is cancelled takes the other with it here: it is told as what had ended by itself.
    assert any(words.startswith("local.epochs=1: ") for words in told)
    assert [(slurm.folder / job).read_text() for job in ("11", "12")] == ["CANCELLED\n"] * 2
    with pytest.raises(ConfigError, match="nothing runs in"):
        stop_sweep(sweep, told.append)
