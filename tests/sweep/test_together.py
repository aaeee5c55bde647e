"""Runs at once: a failure is named and keeps nobody back; a signal stops all with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fedray.rundir.checkpoint import rounds_in
from fedray.sweep import Cell, Sweep
from fedray.sweep.together import Stopped, run_together
from tests.cli.command import SMALL

DEADLINE = 120.0


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_end(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    sweep = Sweep.of(tmp_path / "small.yaml", ["local.optimizer.lr=0.1,1e30"], tmp_path / "sweep")
    sweep.begin()
    told: list[tuple[str, str]] = []
    failed = run_together(sweep, sweep.cells, 2, lambda cell, word: told.append((cell.name, word)))
    assert [one.cell for one in failed] == [sweep.cells[1]]
    assert "finite" in failed[0].words or "failed" in failed[0].words
    assert sweep.done(sweep.cells[0])
    assert {word for _, word in told} == {"begins", "finished", "failed"}


@pytest.mark.slow
def test_a_signal_stops_all_with_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.replace("rounds: 3", "rounds: 100000"))
    sweep = Sweep.of(tmp_path / "small.yaml", ["seed=1,2,3"], tmp_path / "sweep")
    sweep.begin()
    cells = sweep.cells

    def signal_when_trained(cell: Cell, word: str) -> None:
        if word == "begins" and cell is cells[0]:
            metrics = sweep.run_folder(cell).path / "metrics.jsonl"
            deadline = time.monotonic() + DEADLINE
            while not (metrics.exists() and metrics.stat().st_size):
                assert time.monotonic() < deadline, f"no round of {cell.name} in {DEADLINE:g} s"
                threading.Event().wait(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run_together(sweep, cells, 1, signal_when_trained)
    assert rounds_in(sweep.run_folder(cells[0]).checkpoints)
    assert sweep.status(cells[0]) == "stopped"
    assert sweep.status(cells[2]) == "new"
