"""Several runs by one command: which are stopped by a request in another terminal, and what the command then says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedray.core.record import RoundRecord
from fedray.experiment.experiment import Experiment
from fedray.experiment.stop import stop
from fedray.rundir.names import STOP
from fedray.sweep.stop import stop_several
from tests.cli.command import SMALL, Cli, hashes

Begun = Callable[[int, Callable[[Path], None]], list[str]]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """Do something beside a run's first round, as a person in another terminal; gives the names of what began."""
    names: list[str] = []
    original = Experiment.records

    def watched(number: int, do: Callable[[Path], None]) -> list[str]:
        def records(self: Experiment, *args: Any) -> Iterator[RoundRecord]:
            path = self.run.folder.path
            names.append(path.name)
            mine = len(names) == number
            for record in original(self, *args):
                if mine and record.round == 1:
                    mine = False
                    asking = threading.Thread(target=do, args=(path,), daemon=True)
                    asking.start()
                    for _ in range(10_000):  # the request is on its way before the run comes to its end
                        if (path / STOP).exists():
                            break
                        threading.Event().wait(0.001)
                yield record

        monkeypatch.setattr(Experiment, "records", records)
        return names

    return watched


def stop_run(run: Path) -> None:
    stop(run, lambda words: None)


def stop_all(run: Path) -> None:
    stop_several(run.parent, lambda words: None)


def status(run: str) -> str:
    return str(json.loads(Path(run, "summary.json").read_text())["status"])


@pytest.fixture
def long(small: Path) -> Path:
    """A run of a second."""
    small.write_text(SMALL.replace("rounds: 3", "rounds: 300").replace("tracking", "checkpoint: {every: 0}\ntracking"))
    return small


@pytest.mark.slow
def test_the_run_that_is_stopped_by_its_folder_is_named_and_goes_on(cli: Cli, long: Path, begun: Begun) -> None:
    names = begun(2, stop_run)
    outcome = cli("sweep", long, "seed=1,2,3")
    assert (outcome.status, outcome.err) == (75, "stopped: seed=2; the same command goes on\n")
    assert "1 missing" in outcome.out
    assert "failed" not in outcome.out
    assert [status(f"sweeps/small/seed={seed}") for seed in (1, 2, 3)] == ["finished", "stopped", "finished"]
    assert cli("sweep", long, "seed=1,2,3", "-q").status == 0
    assert names == ["seed=1", "seed=2", "seed=3", "seed=2"]
    assert cli("run", long, "seed=2", "run.dir=whole", "-q").status == 0
    assert hashes(Path("sweeps/small/seed=2")) == hashes(Path("whole"))


def test_all_are_stopped_by_the_folder_of_all(cli: Cli, long: Path, begun: Begun) -> None:
    names = begun(2, stop_all)
    outcome = cli("sweep", long, "seed=1,2,3", "-q")
    assert (outcome.status, outcome.err) == (75, "stopped after 1 of 3 runs; the same command goes on\n")
    assert names == ["seed=1", "seed=2"]
    assert status("sweeps/small/seed=2") == "stopped"


@pytest.mark.slow
def test_what_is_chosen_by_a_stopped_run_waits_for_it(cli: Cli, long: Path, begun: Begun) -> None:
    """Else who goes on from a rung would depend on it."""
    words = ["local.epochs=1,2", "--by", "test.loss", "--rungs", "200", "--factor", "2", "-q"]
    names = begun(1, stop_run)
    outcome = cli("sweep", long, *words, "--dir", "one")
    assert outcome.status == 75
    first, second = outcome.err.splitlines()
    assert first == "stopped: local.epochs=1; the same command goes on"
    assert "chosen once all have come as far" in second
    assert names == ["local.epochs=1", "local.epochs=2"]
    assert status("one/local.epochs=2") == "budget"
    assert cli("sweep", long, *words, "--dir", "one").status == 0
    assert cli("sweep", long, *words, "--dir", "two").status == 0
    assert Path("one/table.json").read_bytes() == Path("two/table.json").read_bytes()


@pytest.mark.slow
def test_of_a_comparison_too(cli: Cli, long: Path, begun: Begun) -> None:
    names = begun(1, stop_run)
    outcome = cli("compare", long, "data.holdout=0.25")
    assert (outcome.status, outcome.err) == (75, "")
    assert "each client alone: stopped; the same command goes on" in outcome.out
    assert "federated, fedavg" in outcome.out
    assert cli("compare", long, "data.holdout=0.25").status == 0
    assert names == ["local_only", "centralized", "fedavg", "local_only"]


def test_a_comparison_ends_by_its_folder(cli: Cli, long: Path, begun: Begun) -> None:
    names = begun(2, stop_all)
    outcome = cli("compare", long, "data.holdout=0.25", "-q")
    assert (outcome.status, outcome.err) == (75, "stopped after 1 of 3 runs; the same command goes on\n")
    assert names == ["local_only", "centralized"]
