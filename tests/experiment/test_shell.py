"""The shell of a run says how it goes, to whoever started it, and how it ended."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedray
from fedray.core.errors import RunFailed
from fedray.experiment.build import Config
from fedray.experiment.experiment import Experiment
from fedray.experiment.given import GivenModel
from fedray.experiment.shell import run_in_sight
from fedray.run.interrupt import StoppedEarly
from fedray.rundir.folder import RunFolder
from fedray.rundir.lock import driving, owner_of
from fedray.rundir.names import STOP, to_go_on
from fedray.tracking.console import Console
from tests.helpers import class_problem


def experiment(folder: Path, rounds: int = 2) -> Experiment:
    problem = class_problem()
    parts: dict[str, Any] = {"data": problem.data, "model": GivenModel(problem.model_fn), "rounds": rounds}
    return Config.bind("mine", {}, {**parts, "cluster": {"name": "inline"}}).experiment(RunFolder(folder))


def test_a_run_to_its_end_is_shown_with_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_in_sight(experiment(tmp_path / "run"))
    assert ([record.round for record in ended.history], ended.stopped) == ([1, 2], False)
    out = capsys.readouterr().out
    assert "mine: 6 clients" in out
    assert "2 of 2" in out
    assert run_in_sight(experiment(tmp_path / "quiet"), quiet=True).history
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("own", "word"), [(True, "exit"), (False, "interrupt")])
def test_a_signal_stops_it_with_a_checkpoint_and_says_what_a_second_would_do(
    own: bool, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Experiment.records
    told, notes = threading.Event(), list[str]()

    def interrupted(self: Experiment, on_stop: Any) -> Iterator[fedray.RoundRecord]:
        for record in records(self, on_stop):
            yield record
            if record.round == 1:
                signal.raise_signal(signal.SIGINT)
                assert told.wait(60)  # by the thread that asks for the stop

    def note(self: Console, text: str) -> None:
        notes.append(text)
        told.set()

    monkeypatch.setattr(Experiment, "records", interrupted)
    monkeypatch.setattr(Console, "note", note)
    ended = run_in_sight(experiment(tmp_path / "run", rounds=10**6), own_process=own)
    assert ended.stopped
    # The command says itself how to go on, on standard error.
    more = [] if own else [f"stopped; go on with: {to_go_on(tmp_path / 'run')}"]
    assert notes == [f"stopping: saving a checkpoint (once more to {word} at once)", *more]
    assert RunFolder(tmp_path / "run").summary()["status"] == "stopped"


@pytest.mark.parametrize("by_name", [True, False])
def test_of_several_runs_one_that_is_stopped_by_its_folder_before_its_first_round_ends_alone(
    by_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `fedray stop` leaves it: the process that was asked stands beside the lock."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    def early(self: Experiment, on_stop: Any) -> Iterator[fedray.RoundRecord]:
        stopped = threading.Event()
        on_stop(stopped.set)
        with driving(run_dir):
            if by_name:
                (run_dir / STOP).write_text(json.dumps(getattr(owner_of(run_dir), "token", "")))
            signal.raise_signal(signal.SIGTERM)
            assert stopped.wait(60)
        raise StoppedEarly("nothing is left")
        yield

    monkeypatch.setattr(Experiment, "records", early)
    if by_name:
        ended = run_in_sight(experiment(run_dir), quiet=True, alone=False)
        assert (ended.history, ended.stopped, ended.by_name) == ([], True, True)
    for alone in (True, by_name):
        with pytest.raises(SystemExit) as left:
            run_in_sight(experiment(run_dir), quiet=True, alone=alone)
        assert left.value.code == 75
    assert capfd.readouterr().err.count("stopped before the run began") == 2


def test_a_run_that_fails_says_where_its_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RunFailed("round 1: no longer finite")

    monkeypatch.setattr("fedray.run.loop.Rounds._aggregate", broken)
    with pytest.raises(RunFailed, match=r"^round 1: no longer finite\nlog: .*log\.txt$"):
        run_in_sight(experiment(tmp_path / "run"), quiet=True)
