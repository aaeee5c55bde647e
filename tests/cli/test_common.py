"""What the commands share: a place found early, a run in sight, and its end told by the exit status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from fedray.cli.common import check_new, loaded_from, train, where
from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError, RunFailed
from fedray.experiment.build import Config
from fedray.experiment.experiment import Experiment
from fedray.run.interrupt import STOPPED
from fedray.rundir.folder import RunFolder
from tests.cli.command import SMALL

EARLY = f"""
import sys
from pathlib import Path
from fedray.cli.common import check_new, where
from fedray.config.layers import load_layers
Path(sys.argv[1]).write_text({SMALL!r})
cluster, worker = where(load_layers(Path(sys.argv[1]), ["worker.cpus=2"]))
assert (cluster.name, worker.cpus) == ("inline", 2.0)
check_new(load_layers(Path(sys.argv[1]), ["run.dir=nowhere"]))
assert "torch" not in sys.modules
"""


@pytest.fixture
def experiment(small: Path) -> Experiment:
    """A small run, not begun."""
    return Config.load(small).experiment(RunFolder(Path("run")))


@dataclass(frozen=True)
class Watched(Experiment):
    """An experiment that does something of the test's after its first record, such as to stop."""

    after_one: Callable[[Callable[[], None]], None] = lambda stop: stop()

    def records(self, on_stop: Callable[[Callable[[], None]], None] = lambda stop: None) -> Iterator[Any]:
        stops: list[Callable[[], None]] = []

        def armed(stop: Callable[[], None]) -> None:
            stops.append(stop)
            on_stop(stop)

        for record in super().records(armed):
            yield record
            if record.round == 1:
                self.after_one(stops[0])


def test_where_it_runs_is_known_before_torch_is(tmp_path: Path) -> None:
    """Ray starts meanwhile, and a mistake in those sections is said at once."""
    subprocess.run([sys.executable, "-c", EARLY, str(tmp_path / "x.yaml")], check=True)


def test_a_mistake_there_is_named(small: Path) -> None:
    with pytest.raises(ConfigError, match=r"^worker\.cpu: unknown key \(did you mean 'cpus'"):
        where(load_layers(small, ["worker.cpu=2"]))
    with pytest.raises(
        ConfigError, match=r"^worker\.workers: unknown key \(did you mean cluster\.workers\?\); allowed"
    ):
        where(load_layers(small, ["worker.workers=2"]))
    with pytest.raises(ConfigError, match=r"^mu: unknown key \(did you mean algorithm\.mu\?\); allowed: rounds"):
        where(load_layers(small, ["mu=2", "algorithm=fedprox"]))


def test_a_folder_that_holds_a_run_or_cannot_be_is_refused_before_torch_is_loaded(small: Path) -> None:
    check_new(load_layers(small))
    RunFolder(Path("out")).claim("seed: 7\n")
    with pytest.raises(ConfigError, match=r"^run\.dir: out already holds a run; go on with "):
        check_new(load_layers(small, ["run.dir=out"]))
    Path("runs").touch()
    with pytest.raises(ConfigError, match=r"^run\.dir: runs cannot be written: .*runs is a file"):
        check_new(load_layers(small))


def test_a_finished_run_shows_its_end_and_returns(experiment: Experiment, capfd: pytest.CaptureFixture[str]) -> None:
    train(experiment, quiet=False)
    assert "round 3/3" in capfd.readouterr().out
    assert experiment.run.folder.summary()["status"] == "finished"


def test_a_stopped_run_says_how_to_go_on_and_has_a_status_of_its_own(
    experiment: Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        train(Watched(experiment.run, experiment.place), quiet=True)
    assert ended.value.exit_code == STOPPED == 75
    out, err = capfd.readouterr()
    assert (out, err) == ("", "stopped; go on with: fedray resume run\n")


def test_a_failed_run_names_its_log(experiment: Experiment) -> None:
    def fail(stop: Callable[[], None]) -> None:
        raise RunFailed("by hand")

    with pytest.raises(RunFailed, match=r"^by hand\nlog: run/log\.txt$"):
        train(Watched(experiment.run, experiment.place, after_one=fail), quiet=True)


def test_a_table_that_cannot_be_read_does_not_change_how_a_run_ended(
    experiment: Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("sweep.json").write_text("torn")
    train(experiment, quiet=True)
    assert capfd.readouterr().err.startswith("fedray: the table of the sweep: ")


def test_a_run_that_goes_on_keeps_its_name(small: Path) -> None:
    layers = load_layers(small)
    with pytest.raises(ConfigError, match="is no run folder"):
        loaded_from(Path("run"), layers)
    folder = RunFolder(Path("run"))
    folder.claim(small.read_text())
    assert loaded_from(Path("run"), layers)[0].name == "run"
    (folder.path / "summary.json").write_text('{"name": "small"}')
    assert loaded_from(Path("run"), layers)[0].name == "small"
