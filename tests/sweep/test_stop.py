"""Several runs are stopped by their folder: first what would begin more, so that nothing begins behind one's back."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.lock import Owner
from fedray.rundir.names import LOCK, STOP
from fedray.rundir.several import Several, at_work, doing_several
from fedray.slurm.requeue import HISTORY, History
from fedray.slurm.stages import Waiting
from fedray.sweep import Search, Sweep
from fedray.sweep.stop import holds_several, stop_several
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
    ended = stop_several(sweep.folder, told.append)
    assert ended.saved
    assert ended.text == f"stopped 2 runs; go on with: fedray sweep {sweep.folder} --slurm"
    assert told[0] == "job 12, which would have submitted the next stage: cancelled"
    # Of an array the first one that is cancelled takes the other with it here: it is told as what had ended by itself.
    assert any(words.startswith("local.epochs=1: ") for words in told)
    assert [(slurm.folder / job).read_text() for job in ("11", "12")] == ["CANCELLED\n"] * 2
    with pytest.raises(ConfigError, match="nothing runs in"):
        stop_several(sweep.folder, told.append)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two run folders, of which nobody has said that it is a sweep's."""
    for name in "ab":
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("rounds: 9\n")
    return tmp_path / "runs"


def begin(run: Path) -> None:
    (run / LOCK).write_text(json.dumps(asdict(Owner.me(launcher=4711))))


def end(run: Path) -> None:
    (run / "summary.json").write_text(json.dumps({"status": "stopped", "rounds": 2}))
    (run / LOCK).unlink()


def test_who_would_begin_more_is_asked_and_what_it_begins_meanwhile_is_stopped_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run was being made as the request came, and takes its folder just after."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    assert not holds_several(folder)
    with doing_several(folder) as note:
        assert holds_several(folder)
        begin(folder / "a")
        looks = iter(range(100))

        def pause(seconds: float) -> None:
            if threading.current_thread() is not threading.main_thread():
                return time.sleep(0.001)
            look = next(looks)
            while len(killed) <= look:
                time.sleep(0.001)
            match look:
                case 0:
                    assert note.asked
                    end(folder / "a")
                    begin(folder / "b")
                case 1:
                    end(folder / "b")
                    note.forget()
            return None

        told: list[str] = []
        ended = stop_several(folder, told.append, pause=pause)
    assert (ended.text, ended.saved) == ("stopped 2 runs; the same command goes on", True)
    assert told[0] == f"process {os.getpid()} begins no further run"
    assert {words.partition(":")[0] for words in told[1:]} == {"a", "b"}
    assert killed == [15, 15]


def test_who_was_asked_before_is_waited_for(folder: Path) -> None:
    with doing_several(folder) as note:
        (one,) = at_work(folder)
        one.ask()
        told: list[str] = []
        assert stop_several(folder, told.append, pause=lambda _: note.forget()).saved
    assert told == [f"process {os.getpid()} was asked to begin no further run before; waiting for it"]


def test_who_is_on_another_machine_is_asked_and_not_waited_for(folder: Path) -> None:
    owner = replace(Owner.me(), host="another")
    (folder / f"several-{owner.token}.json").write_text(json.dumps(asdict(owner)))
    told: list[str] = []
    ended = stop_several(folder, told.append)
    assert (ended.text, ended.saved) == ("stopped 0 runs; the same command goes on", False)
    assert "on another since" in told[0]
    assert told[0].endswith("stop what it runs now there")
    assert Several(folder, owner).asked


def test_who_waits_no_longer_is_let_go_and_the_runs_go_on_stopping(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while one run takes its time, waited for by a thread."""
    killed = threading.Event()
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.set())
    begin(folder / "a")

    def pause(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            assert killed.wait(60)
            raise KeyboardInterrupt
        time.sleep(0.001)

    with doing_several(folder), pytest.raises(KeyboardInterrupt):
        stop_several(folder, lambda words: None, pause=pause)
    assert (folder / "a" / STOP).exists()
