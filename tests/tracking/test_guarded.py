"""Trackers of the user's own: by name or as objects, and a run that outlives them."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.nn.functional import cross_entropy

import fedray
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.experiment.build import Config
from fedray.experiment.shell import run_in_sight
from fedray.rundir.folder import RunFolder
from fedray.tracking.base import RunInfo, Tracker
from fedray.tracking.guarded import Guarded
from tests.helpers import class_problem

OWN = """
from pathlib import Path
from fedray.parts import Tracker

class Losses(Tracker):
    def __init__(self, file="losses.txt"):
        self.file = file

    def start(self, run):
        self.path = run.run_dir / self.file

    def round(self, record):
        with self.path.open("a") as file:
            file.write(f"{record.round} {record.train['loss']:.6f}\\n")
"""


class Fails(Tracker):
    """Raises where it is told to, and remembers what it was asked for."""

    def __init__(self, hook: str) -> None:
        self.hook, self.asked = hook, list[str]()

    def _do(self, hook: str) -> None:
        self.asked.append(hook)
        if hook == self.hook:
            raise OSError("no route to host")

    def start(self, run: RunInfo) -> None:
        self._do("start")

    def round(self, record: RoundRecord) -> None:
        self._do("round")

    def finish(self, summary: dict[str, Any]) -> None:
        self._do("finish")

    def close(self) -> None:
        self._do("close")


ASKED = {
    "start": ["start", "close"],
    "round": ["start", "round", "close"],
    "finish": ["start", "round", "round", "finish", "close"],
    "close": ["start", "round", "round", "finish", "close"],
    "": ["start", "round", "round", "finish", "close"],
}


@pytest.mark.parametrize("hook", ASKED)
def test_a_tracker_that_raises_is_left_out_and_closed(
    hook: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Fails(hook)
    problem = class_problem()
    model = fedray.FederatedModel(problem.model_fn, None, cross_entropy)
    args = fedray.TrainArgs(rounds=2, tracking=[tracker])
    with caplog.at_level(logging.WARNING, "fedray"):
        result = fedray.train(model, problem.data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    assert tracker.asked == ASKED[hook]
    assert [record.round for record in result.history] == [1, 2]
    told = [record.getMessage() for record in caplog.records if "tracker" in record.getMessage()]
    assert len(told) == bool(hook)
    assert all("tracker Fails failed" in words and "OSError: no route to host" in words for words in told)


def test_a_second_close_reaches_it_too() -> None:
    tracker = Fails("")
    guarded = Guarded(tracker)
    guarded.close()
    guarded.close()
    assert tracker.asked == ["close", "close"]


class InBackground(Fails):
    """Works in a thread, and waits there until it may go on."""

    background = True

    def __init__(self, hook: str) -> None:
        super().__init__(hook)
        self.free, self.closed, self.threads = threading.Event(), threading.Event(), set[str]()

    def _do(self, hook: str) -> None:
        assert self.free.wait(60)
        self.threads.add(threading.current_thread().name)
        super()._do(hook)
        if hook == "close":
            self.closed.set()


@pytest.mark.parametrize("hook", ["start", "round", "finish", ""])
def test_no_round_waits_for_a_tracker_in_the_background_and_all_hooks_come_in_order(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = InBackground(hook)
    guarded = Guarded(tracker)
    guarded.start(RunInfo(Path("x"), "x", 2))
    for number in (1, 2):
        guarded.round(RoundRecord(number))
    guarded.finish({})
    assert tracker.asked == []
    tracker.free.set()
    guarded.close()
    assert tracker.asked == ASKED[hook]
    assert tracker.threads == {"fedray-tracker"}
    assert caplog.text.count("tracker InBackground failed") == bool(hook)
    guarded.close()
    assert tracker.asked == [*ASKED[hook], "close"]


def test_the_end_of_a_run_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    tracker = InBackground("")
    guarded = Guarded(tracker, patience=0.0)
    guarded.start(RunInfo(Path("x"), "x", 2))
    guarded.close()
    assert "tracker InBackground has not taken all records after 0 s" in caplog.text
    tracker.free.set()
    assert tracker.closed.wait(60)


def test_a_tracker_by_its_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("my_trackers.py").write_text(OWN)
    written = {
        "data": {"name": "digits"},
        "model": "logistic",
        "rounds": 2,
        "cluster": {"name": "inline"},
        "tracking": [{"name": "my_trackers:Losses", "file": "seen.txt"}],
    }
    Path("x.yaml").write_text(yaml.safe_dump(written))
    config, folder = Config.load(Path("x.yaml")), RunFolder(tmp_path / "run")
    records = list(config.experiment(folder).records())
    assert (folder.path / "seen.txt").read_text().splitlines() == [
        f"{record.round} {record.train['loss']:.6f}" for record in records
    ]
    assert yaml.safe_load(config.to_yaml())["tracking"] == written["tracking"]
    with pytest.raises(ConfigError, match=r"tracking\[0\].fil: my_trackers:Losses has no such parameter"):
        Config.load(Path("x.yaml"), ["tracking=[{name: 'my_trackers:Losses', fil: x}]"])
    with pytest.raises(ConfigError, match=r"tracking\[0\].name: unknown tracker 'comet'.*; known: .*tensorboard"):
        Config.load(Path("x.yaml"), ["tracking=[comet]"])


PARTS = {"data": {"name": "digits"}, "model": "logistic", "rounds": 1, "cluster": {"name": "inline"}}


def test_the_files_of_tensorboard_lie_where_they_are_wanted_and_once(tmp_path: Path) -> None:
    elsewhere = {"name": "tensorboard", "log_dir": str(tmp_path / "board")}
    config = Config.bind("x", {}, {**PARTS, "tracking": [elsewhere]})
    list(config.experiment(RunFolder(tmp_path / "run")).records())
    assert len(list((tmp_path / "board").glob("events.*"))) == 1
    assert not list((tmp_path / "run").glob("events.*"))
    assert len(Config.bind("x", {}, {**PARTS, "tracking": ["tensorboard", elsewhere]}).tracking) == 2


class Refuses(Tracker):
    """Cannot work here."""

    def check(self) -> None:
        raise ConfigError("refuses: there is no such server")

    def hint(self, run_dir: Path) -> str:
        return f"look at {run_dir}"


def test_a_tracker_that_cannot_work_is_said_before_the_run(tmp_path: Path) -> None:
    config = Config.bind("x", {}, {**PARTS, "tracking": [Refuses()]})
    with pytest.raises(ConfigError, match="refuses: there is no such server"):
        config.experiment(RunFolder(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_the_hints_of_trackers_are_said_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Looked(Refuses):
        def check(self) -> None: ...

    config = Config.bind("x", {}, {**PARTS, "tracking": ["tensorboard", Looked(), Tracker()]})
    run_in_sight(config.experiment(RunFolder(tmp_path / "run")))
    lines = capsys.readouterr().out.splitlines()
    folder = tmp_path / "run"
    assert lines[-2:] == [f"open TensorBoard: tensorboard --logdir {folder}", f"look at {folder}"]
