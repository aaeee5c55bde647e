"""A run and its folder: claimed when it begins, kept if something happened, and free again if nothing did."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedray.config.sections import ClusterSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.experiment.build import Config
from fedray.experiment.experiment import Experiment
from fedray.experiment.launchers import LAUNCHERS, Inline
from fedray.experiment.place import Place
from fedray.rundir.folder import RunFolder
from tests.cli.command import SMALL


class Faulty(Inline):
    """Runs here, and raises after some records."""

    def __init__(self, error: BaseException, records: int) -> None:
        self._error, self._records = error, records

    def records(self, run: Any, *rest: Any) -> Iterator[Any]:
        if self._records:
            run.folder.log.write_text("it began\n")
        yield from range(self._records)
        if not isinstance(self._error, StopIteration):
            raise self._error


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """A small run, checked and not begun."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return Config.load(tmp_path / "small.yaml").experiment(RunFolder(tmp_path / "run"))


Launch = Callable[[BaseException, int], None]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Lets the launcher raise after so many records."""
    return lambda error, records: monkeypatch.setitem(LAUNCHERS, "inline", Faulty(error, records))


def test_nothing_is_there_before_the_first_record_is_asked_for(experiment: Experiment) -> None:
    records = experiment.records()
    assert not experiment.run.folder.path.exists()
    assert next(records).round == 1
    assert experiment.run.folder.config() == experiment.run.config
    assert [record.round for record in records] == [2, 3]


@pytest.mark.parametrize(
    ("error", "records", "left"),
    [
        (ConfigError("no node has the label"), 0, False),
        (KeyboardInterrupt(), 0, False),
        (RunFailed("no worker came up"), 0, False),
        (RunFailed("two workers died"), 1, True),
        (ZeroDivisionError(), 1, True),
    ],
)
def test_a_run_that_came_to_nothing_leaves_nothing(
    error: BaseException, records: int, left: bool, experiment: Experiment, launch: Launch
) -> None:
    """A failure that has a log is kept: there it says why."""
    launch(error, records)
    with pytest.raises(type(error)):
        list(experiment.records())
    assert experiment.run.folder.path.exists() is left


def test_a_run_that_was_stopped_before_its_first_round_says_so(experiment: Experiment, launch: Launch) -> None:
    launch(StopIteration(), 0)
    with pytest.raises(RunFailed, match=r"^stopped before the first round; nothing is left in "):
        list(experiment.records())
    assert not experiment.run.folder.path.exists()


def test_a_folder_that_another_run_took_meanwhile_is_left_to_it(experiment: Experiment) -> None:
    folder = experiment.run.folder
    folder.claim("seed: 7\n")
    with pytest.raises(ConfigError, match="already holds a run"):
        list(experiment.records())
    assert folder.config() == "seed: 7\n"


def test_a_resume_gives_up_nothing_that_was_there(experiment: Experiment, launch: Launch) -> None:
    list(experiment.records())
    before = sorted(experiment.run.folder.path.rglob("*"))
    launch(ConfigError("by hand"), 0)
    with pytest.raises(ConfigError, match="by hand"):
        list(replace(experiment, run=replace(experiment.run, resume=True)).records())
    assert sorted(experiment.run.folder.path.rglob("*")) == before
    shutil.rmtree(experiment.run.folder.path)


def test_the_place_says_who_launches() -> None:
    assert isinstance(Place(ClusterSection("inline")).launcher, Inline)
