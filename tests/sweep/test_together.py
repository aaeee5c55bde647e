"""Runs at once: a failure is named and keeps nobody back; a signal stops all with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fedray.rundir.checkpoint import rounds_in
from fedray.rundir.lock import owner_of
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
    left = run_together(sweep, sweep.cells, 2, lambda cell, word: told.append((cell.name, word)))
    assert ([*left.failed], left.stopped) == ([sweep.cells[1].name], [])
    (words,) = left.failed.values()
    assert "finite" in words or "failed" in words
    assert sweep.done(sweep.cells[0])
    assert {word for _, word in told} == {"begins", "finished", "failed"}


def wait_for_a_round(sweep: Sweep, cell: Cell) -> None:
    metrics = sweep.run_folder(cell).path / "metrics.jsonl"
    deadline = time.monotonic() + DEADLINE
    while not (metrics.exists() and metrics.stat().st_size):
        assert time.monotonic() < deadline, f"no round of {cell.name} in {DEADLINE:g} s"
        threading.Event().wait(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_run_that_is_stopped_has_not_failed(all_of_them: bool, tmp_path: Path) -> None:
    """The others go on, unless whoever has stopped it asks that none begins."""
    (tmp_path / "small.yaml").write_text(SMALL)
    sweep = Sweep.of(tmp_path / "small.yaml", ["rounds=1000000,2"], tmp_path / "sweep")
    sweep.begin()
    asked, told = threading.Event(), list[str]()

    def stop_when_trained(cell: Cell, word: str) -> None:
        told.append(word)
        if len(told) == 1:
            wait_for_a_round(sweep, cell)
            if all_of_them:
                asked.set()
            owner = owner_of(sweep.run_folder(cell).path)
            assert owner is not None
            os.kill(owner.pid, signal.SIGTERM)

    if all_of_them:
        with pytest.raises(Stopped):
            run_together(sweep, sweep.cells, 1, stop_when_trained, asked.is_set)
        assert told == ["begins", "stopped"]
        return
    left = run_together(sweep, sweep.cells, 1, stop_when_trained, asked.is_set)
    assert (left.failed, left.stopped) == ({}, [sweep.cells[0].name])
    assert told == ["begins", "stopped", "begins", "finished"]
    assert [sweep.status(cell) for cell in sweep.cells] == ["stopped", "finished"]


@pytest.mark.slow
def test_a_signal_stops_all_with_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.replace("rounds: 3", "rounds: 100000"))
    sweep = Sweep.of(tmp_path / "small.yaml", ["seed=1,2,3"], tmp_path / "sweep")
    sweep.begin()
    cells = sweep.cells

    def signal_when_trained(cell: Cell, word: str) -> None:
        if word == "begins" and cell is cells[0]:
            wait_for_a_round(sweep, cell)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run_together(sweep, cells, 1, signal_when_trained)
    assert rounds_in(sweep.run_folder(cells[0]).checkpoints)
    assert sweep.status(cells[0]) == "stopped"
    assert sweep.status(cells[2]) == "new"
