"""Trackers of the user's own: by name or as objects, and a run that outlives them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.nn.functional import cross_entropy

import fedray
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.experiment.build import Config
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
    args = fedray.TrainArgs(rounds=2, trackers=[tracker])
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


def test_a_tracker_by_its_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("my_trackers.py").write_text(OWN)
    written = {
        "data": {"name": "digits"},
        "model": "logistic",
        "rounds": 2,
        "cluster": {"name": "inline"},
        "tracking": {"tensorboard": False, "trackers": [{"name": "my_trackers:Losses", "file": "seen.txt"}]},
    }
    Path("x.yaml").write_text(yaml.safe_dump(written))
    config, folder = Config.load(Path("x.yaml")), RunFolder(tmp_path / "run")
    records = list(config.experiment(folder).records())
    assert (folder.path / "seen.txt").read_text().splitlines() == [
        f"{record.round} {record.train['loss']:.6f}" for record in records
    ]
    assert yaml.safe_load(config.to_yaml())["tracking"]["trackers"] == written["tracking"]["trackers"]  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"tracking.trackers\[0\].fil: my_trackers:Losses has no such parameter"):
        Config.load(Path("x.yaml"), ["tracking.trackers=[{name: 'my_trackers:Losses', fil: x}]"])
    with pytest.raises(ConfigError, match=r"tracking.trackers\[0\].name: unknown tracker 'wandb'; known: tensorboard"):
        Config.load(Path("x.yaml"), ["tracking.trackers=[wandb]"])


def test_the_files_of_tensorboard_lie_where_they_are_wanted_and_once(tmp_path: Path) -> None:
    parts = {"data": {"name": "digits"}, "model": "logistic", "rounds": 1, "cluster": {"name": "inline"}}
    elsewhere = [{"name": "tensorboard", "log_dir": str(tmp_path / "board")}]
    config = Config.bind("x", {}, {**parts, "tracking": {"tensorboard": False, "trackers": elsewhere}})
    list(config.experiment(RunFolder(tmp_path / "run")).records())
    assert len(list((tmp_path / "board").glob("events.*"))) == 1
    assert not list((tmp_path / "run").glob("events.*"))
    with pytest.raises(ConfigError, match=r"tracking.trackers\[0\]: the run folder has TensorBoard's files already"):
        Config.bind("x", {}, {**parts, "tracking": {"trackers": elsewhere}})
