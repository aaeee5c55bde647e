"""A run is asked to stop, once, and waited for."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.experiment.stop import stop
from fedray.rundir.lock import Owner
from fedray.rundir.names import LOCK, STOP
from fedray.slurm.requeue import HISTORY, History


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder after its second round."""
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints" / "round-00000002").mkdir(parents=True)
    (run_dir / "config.yaml").write_text("rounds: 9\n")
    return run_dir


def end(folder: Path, status: str) -> None:
    (folder / "summary.json").write_text(json.dumps({"status": status, "error": "no disk"}))
    (folder / LOCK).unlink(missing_ok=True)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Signals that were sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.mark.parametrize(
    ("status", "words", "saved"),
    [
        ("stopped", "stopped after round 2, its checkpoint is saved; go on with: fedray resume", True),
        ("finished", "had come to its end: finished, after round 2", True),
        ("early_stopped", "had come to its end: early_stopped, after round 2", True),
        ("failed", "failed: no disk", False),
    ],
)
def test_a_run_of_this_machine(
    status: str, words: str, saved: bool, folder: Path, killed: list[tuple[int, int]]
) -> None:
    (folder / LOCK).write_text(json.dumps(asdict(Owner.me(launcher=4711))))
    looks = iter([False, True])
    told: list[str] = []
    ended = stop(
        folder,
        told.append,
        clock=iter(range(0, 100, 10)).__next__,
        pause=lambda _: end(folder, status) if next(looks) else None,
    )
    assert killed == [(4711, 15)]
    assert told[0] == "asked process 4711 to stop with a checkpoint"
    assert "round 2 is done" in told[1]
    assert (words in ended.text, ended.saved) == (True, saved), ended
    assert not (folder / STOP).exists()


def test_a_second_signal_which_would_kill_it_is_not_sent(folder: Path, killed: list[tuple[int, int]]) -> None:
    (folder / LOCK).write_text(json.dumps(asdict(Owner.me(launcher=4711))))

    def no_patience(seconds: float) -> None:
        raise KeyboardInterrupt

    told: list[str] = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stop(folder, told.append, pause=no_patience)
    assert len(killed) == 1
    assert told[-1] == "process 4711 was asked to stop before; waiting for it"
    (folder / LOCK).write_text(json.dumps(asdict(Owner.me(launcher=4712))))
    with pytest.raises(KeyboardInterrupt):
        stop(folder, told.append, pause=no_patience)
    assert killed[-1] == (4712, 15), "the run was taken up anew"


def test_what_cannot_be_stopped_from_here_is_said(folder: Path, killed: list[tuple[int, int]]) -> None:
    def refused(driver: Owner | None) -> str:
        if driver is not None:
            (folder / LOCK).write_text(json.dumps(asdict(driver)))
        with pytest.raises(ConfigError) as raised:
            stop(folder, lambda text: None)
        return str(raised.value)

    assert "nothing runs" in refused(None)
    assert "interrupted, at round 2; it goes on with: fedray resume" in refused(None)
    assert "stop it where it was started" in refused(Owner.me())
    assert "run `fedray stop` there" in refused(replace(Owner.me(launcher=7), host="elsewhere"))
    assert "nothing runs" in refused(replace(Owner.me(launcher=7), born=1))
    assert killed == []


def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *states: str) -> Path:
    """Put a Slurm on the path whose job is in one state after the other; the file with what scancel was given."""
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for number, state in enumerate(states):
        (programs / f"state{number}").write_text(f"JobState={state} Reason=None\n")
    (programs / "scontrol").write_text(
        f"#!/bin/sh\ncd {programs}\nset -- $(ls state*)\ncat $1\n[ $# -gt 1 ] && rm $1\nexit 0\n"
    )
    (programs / "scancel").write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    for program in ("scontrol", "scancel"):
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return calls


def test_a_slurm_job_saves_and_is_not_requeued(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    History("12_1").write(folder / HISTORY)
    driver = replace(Owner.me(), host="node7", job="13")
    (folder / LOCK).write_text(json.dumps(asdict(driver)))
    # read_status asks for the job of the lock, and stop for the one of the history.
    calls = slurm(tmp_path, monkeypatch, "RUNNING", "RUNNING", "COMPLETING", "FAILED")
    told: list[str] = []
    ended = stop(folder, told.append, pause=lambda _: end(folder, "stopped"))
    assert calls.read_text() == "--batch --signal=INT 12_1\n", "the id 13 may be that of the whole array"
    assert told == ["asked Slurm job 12_1 to stop with a checkpoint"]
    assert ended.saved
    assert "go on with: fedray slurm" in ended.text


def test_a_slurm_job_that_waits_is_cancelled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    History(12).write(folder / HISTORY)
    calls = slurm(tmp_path, monkeypatch, "PENDING", "PENDING", "CANCELLED")
    told: list[str] = []
    ended = stop(folder, told.append, pause=lambda _: None)
    assert calls.read_text() == "12\n"
    assert told == ["Slurm job 12 was PENDING: cancelled"]
    assert ended.saved
    assert "newest checkpoint is that of round 2" in ended.text
