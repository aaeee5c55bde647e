"""Functions that are called after each round: when, with what, and how they end a run."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.nn.functional import cross_entropy

import fedray
from fedray.core import inject
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.record import RoundRecord
from fedray.experiment.build import Config
from fedray.experiment.shell import run_in_sight
from fedray.rundir.folder import RunFolder
from fedray.tracking.callbacks import Callbacks, callbacks
from fedray.tracking.jsonl import read_records
from tests.helpers import class_problem

PROBLEM = class_problem(test=9, holdout=0.3)
ARGS = fedray.TrainArgs(rounds=5, evaluate_every=2, evaluate_clients_every=3, checkpoint_every=2)


def train(run_dir: Path, callbacks: Any = (), resume: bool = False, args: fedray.TrainArgs = ARGS) -> fedray.Result:
    model = fedray.FederatedModel(PROBLEM.model_fn, None, cross_entropy)
    options: dict[str, Any] = {"cluster": "inline", "progress": False, "resume": resume, "run_dir": run_dir}
    return fedray.train(model, PROBLEM.data, args, algorithm=fedray.Scaffold(), callbacks=callbacks, **options)


def measured(records: list[RoundRecord]) -> list[tuple[Any, ...]]:
    """What does not depend on the clock."""
    return [
        (r.round, r.train, r.test, r.clients_test, r.evaluated, r.clients, r.weight, r.model_sha256) for r in records
    ]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The records of a run that nobody listens to."""
    return measured(train(tmp_path_factory.mktemp("quiet") / "run").history)


class Watch:
    """Keeps the records, what was on disk by then, and stops after a round."""

    def __init__(self, folder: Path, last: int = 0) -> None:
        self.folder, self.last = folder, last
        self.records, self.lines = list[RoundRecord](), list[int]()

    def __call__(self, record: RoundRecord) -> Any:
        self.records.append(record)
        self.lines.append(len(read_records(self.folder / "metrics.jsonl")))
        return record.round == self.last


def test_each_record_is_complete_and_on_disk_when_it_is_told_and_listening_changes_nothing(
    tmp_path: Path, quiet: list[tuple[Any, ...]]
) -> None:
    one, other = Watch(tmp_path / "run"), list[int]()
    result = train(tmp_path / "run", [one, lambda record: other.append(record.round)])
    assert measured(one.records) == measured(result.history) == quiet
    assert one.lines == other == [1, 2, 3, 4, 5]
    assert [record.round for record in one.records if record.test] == [2, 4, 5]
    assert not result.stopped


@pytest.mark.parametrize("last", [1, 2, 3, 4])
@pytest.mark.one_in(2)
def test_true_ends_the_run_after_that_round_and_it_goes_on_to_the_same_bits(
    last: int, tmp_path: Path, quiet: list[tuple[Any, ...]]
) -> None:
    folder = tmp_path / "run"
    stopped = train(folder, [Watch(folder, last)])
    assert (stopped.stopped, len(stopped.history)) == (True, last)
    summary = RunFolder(folder).summary()
    assert (summary["status"], summary["rounds"]) == ("early_stopped", last)
    assert summary["early_stopped"] == f"callbacks[0]: {__name__}.Watch ends the run"
    assert (folder / "model.safetensors").exists()
    watch = Watch(folder)
    result = train(folder, [watch], resume=True)
    assert not result.stopped
    assert [record["round"] for record in read_records(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert {record.round for record in watch.records} >= set(range(last + 1, 6))
    assert [(r.train, r.test, r.model_sha256) for r in result.history] == [
        (train, test, sha256) for _, train, test, _, _, _, _, sha256 in quiet
    ]


def test_who_goes_on_with_a_run_that_a_callback_has_ended_is_not_ended_by_the_same_round(tmp_path: Path) -> None:
    """Whether the checkpoint of that round was written before the callback was asked, and the round is told again."""
    for every in (0, 1):
        args = fedray.TrainArgs(rounds=5, checkpoint_every=every)
        for resume, rounds in ((False, 2), (True, 3)):
            result = train(tmp_path / str(every), [lambda record: record.round >= 2], args=args, resume=resume)
            assert (len(result.history), result.stopped) == (rounds, True)


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("ends_as", ["stopped", "failed"])
def test_who_goes_on_and_gets_nowhere_goes_on_the_next_time_all_the_same(
    every: int, ends_as: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the checkpoint has the reason for which it had ended, or the round that gave it is told again."""
    folder, args = tmp_path / "run", fedray.TrainArgs(rounds=5, checkpoint_every=every)

    def end(record: RoundRecord) -> bool:
        return record.round == 2

    def broken(name: str, round: int, block: int = -1) -> None:
        if name == "driver.start":
            if ends_as == "failed":
                raise RuntimeError("no luck")
            before = set(threading.enumerate())
            signal.raise_signal(signal.SIGTERM)
            for asks in set(threading.enumerate()) - before:
                asks.join()

    train(folder, [end], args=args)
    with monkeypatch.context() as patched, contextlib.suppress(RunFailed):
        patched.setattr(inject, "point", broken)
        train(folder, [end], args=args, resume=True)
    summary = RunFolder(folder).summary()
    assert (summary["status"], summary["rounds"], summary["gone_on_after"]) == (ends_as, 2, 2)
    assert len(train(folder, [end], args=args, resume=True).history) == 5
    assert RunFolder(folder).summary()["status"] == "finished"


def test_a_run_that_is_killed_as_it_ends_ends_after_the_same_round(tmp_path: Path) -> None:
    """With the last checkpoint on disk, and nothing that says how it ended."""
    folder = tmp_path / "run"
    train(folder, [Watch(folder, 3)])
    (folder / "summary.json").unlink()
    (folder / "model.safetensors").unlink()
    watch = Watch(folder)
    result = train(folder, [watch], resume=True)
    assert (len(result.history), watch.records, result.stopped) == (3, [], True)
    summary = RunFolder(folder).summary()
    assert (summary["status"], summary["early_stopped"]) == (
        "early_stopped",
        f"callbacks[0]: {__name__}.Watch ends the run",
    )
    assert (folder / "model.safetensors").exists()
    assert len(train(folder, [watch], resume=True).history) == 5


class Patience:
    """Ends a run after so many rounds without a better training loss: what it knows, records tell."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.best, self.waited = rounds, float("inf"), 0

    def __call__(self, record: RoundRecord) -> bool:
        better = record.train["loss"] < self.best
        self.best, self.waited = min(self.best, record.train["loss"]), 0 if better else self.waited + 1
        return self.waited >= self.rounds

    def resume(self, records: list[RoundRecord]) -> None:
        self.__init__(self.rounds)  # type: ignore[misc]
        for record in records:
            self(record)


@pytest.mark.parametrize("stopped", [1, 2, 3])
@pytest.mark.one_in(3)
def test_one_that_resumes_by_the_records_before_knows_what_it_would_know_without_a_stop(
    stopped: int, tmp_path: Path
) -> None:
    def stops(record: RoundRecord) -> None:
        if record.round == stopped:
            signal.raise_signal(signal.SIGTERM)

    whole, parted = Patience(99), Patience(99)
    train(tmp_path / "whole", [whole])
    assert train(tmp_path / "run", [Patience(99), stops]).stopped
    train(tmp_path / "run", [parted], resume=True)
    assert vars(parted) == vars(whole)


def test_true_after_the_last_round_finds_a_finished_run(tmp_path: Path) -> None:
    assert not train(tmp_path / "run", [Watch(tmp_path / "run", 5)]).stopped
    assert RunFolder(tmp_path / "run").summary()["status"] == "finished"


def test_one_that_raises_is_named_and_left_out_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def broken(record: RoundRecord) -> None:
        calls.append(record.round)
        if record.round == 2:
            raise OSError("no route to host")

    watch = Watch(tmp_path / "run", 4)
    with caplog.at_level(logging.WARNING, "fedray"):
        result = train(tmp_path / "run", [broken, watch])
    assert calls == [1, 2]
    assert (result.stopped, len(watch.records)) == (True, 4)
    (told,) = [record.getMessage() for record in caplog.records if "callback" in record.getMessage()]
    assert told.startswith(f"callback {__name__}.")
    assert told.endswith("broken failed in round 2, and the run goes on without it: OSError: no route to host")


@pytest.mark.parametrize(
    ("answer", "stops"),
    [(True, True), (np.True_, True), (False, False), (None, False), (1, False), ("yes", False), (np.ones(3), False)],
)
def test_only_true_stops(answer: Any, stops: bool) -> None:
    told = Callbacks([lambda record: None, lambda record: answer]).tell(RoundRecord(1))
    assert (told is not None and told.startswith("callbacks[1]: ")) == stops


def test_all_are_called_even_if_the_first_stops_the_run() -> None:
    seen: list[int] = []
    callbacks = Callbacks([lambda record: True, lambda record: seen.append(record.round)])
    assert callbacks.tell(RoundRecord(7)) == f"callbacks[0]: {callbacks.names[0]} ends the run"
    assert seen == [7]


def test_names_are_those_of_the_functions(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    given: list[Callable[[RoundRecord], Any]] = [repr, partial(repr), watch, watch.records.append]
    assert Callbacks(given).names == ("builtins.repr", "builtins.repr", f"{__name__}.Watch", "builtins.list.append")


async def later(record: RoundRecord) -> None: ...


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (print, "callbacks: a list of functions is needed, such as .print., or .*; this is a builtin_function"),
        ("print", "callbacks: expected a list, got 'print'"),
        ([lambda: True], r"callbacks\[0\]: .*<lambda> is called with a record, and cannot be: too many positional"),
        ([lambda record, how: True], r"callbacks\[0\]: .* cannot be: missing a required argument: 'how'"),
        ([later], r"callbacks\[0\]: .*later is called with a record, and is a coroutine"),
        (
            [print, 3],
            r"callbacks\[1\]: a function of a fedray.RoundRecord is needed, such as print, .*; this is an int",
        ),
        ([Watch], r"callbacks\[0\]: .* this is the class Watch"),
    ],
)
def test_what_cannot_be_called_is_refused_before_the_run(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(tmp_path / "run", given)
    assert not (tmp_path / "run").exists()


# In a config

MINE = """
from dataclasses import dataclass
import helper

def late(record, after=3):
    helper.seen.append(record.round)
    return record.round == after

class Late:
    def __init__(self, after):
        self.after = after
    def __call__(self, record):
        return record.round == self.after

@dataclass(frozen=True)
class Typed:
    after: int = 3
    def __call__(self, record):
        return record.round == self.after

class Hook:
    def on_round_end(self, record):
        pass

class Broken(Late):
    def __init__(self):
        raise OSError("no route to host")

def nobody():
    pass

number = 3
"""
CONTENT: dict[str, Any] = {
    "data": {"name": "synthetic", "clients": 3, "examples": 4, "features": 2, "classes": 2},
    "model": "logistic",
    "rounds": 5,
    "cluster": {"name": "inline"},
    "tracking": [],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the user's module, which is gone from ``sys.modules`` afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("seen = []\n")
    yield tmp_path
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)


def bound(*said: Any) -> Config:
    return Config.bind("x", {}, {**CONTENT, "callbacks": list(said)})


@pytest.mark.parametrize(
    "said", ["mine:late", {"name": "mine:late", "after": 2}, {"name": "mine:Late", "after": 2}, "mine:Typed"]
)
def test_one_that_a_config_names_is_called_as_one_of_python_is_and_its_code_is_kept(said: Any, here: Path) -> None:
    last = said["after"] if isinstance(said, dict) else 3
    ended = run_in_sight(bound(said).experiment(RunFolder(here / "run")), quiet=True)
    assert (len(ended.history), ended.stopped, ended.by_callback) == (last, False, True)
    name = said if isinstance(said, str) else said["name"]
    assert RunFolder(here / "run").summary()["early_stopped"] == f"callbacks[0]: {name} ends the run"
    (entry,) = json.loads((here / "run" / "code.json").read_text())
    assert list(entry["files"]) == ["helper.py", "mine.py"]
    again = Config.load(here / "run" / "config.yaml")
    assert again.to_yaml() == bound(said).to_yaml()
    assert again.callbacks == bound(said).callbacks


def test_names_and_functions_stand_in_one_list_from_python_and_the_named_ones_go_on_by_the_command(here: Path) -> None:
    rounds: list[int] = []
    args = fedray.TrainArgs(rounds=5, tracking=[])
    given: Any = ["mine:late", lambda record: rounds.append(record.round)]
    options: dict[str, Any] = {"cluster": "inline", "progress": False, "run_dir": here / "run", "callbacks": given}
    result = fedray.train(fedray.FederatedModel("logistic"), CONTENT["data"], args, **options)
    assert result.stopped
    assert rounds == [1, 2, 3] == sys.modules["helper"].seen
    folder = RunFolder(here / "run")
    again = Config.load(folder.path / "config.yaml")
    assert [part.section for part in again.callbacks] == [{"name": "mine:late"}]
    ended = run_in_sight(again.experiment(folder, resume=True), quiet=True)
    assert ([record.round for record in ended.history], ended.by_callback) == ([4, 5], False)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("mine:lat", r"callbacks\[0\].name: module 'mine' has no 'lat' \(did you mean 'late'\?\)"),
        ("late", r"callbacks\[0\].name: unknown callback 'late'; known: none; for your own: my_module:name"),
        ("my:late", r"callbacks\[0\].name: no module 'my'"),
        ({"name": "mine:late", "every": 2}, r"callbacks\[0\].every: mine:late has no such parameter.*; allowed: after"),
        ("mine:Late", r"callbacks\[0\].after: a value is needed by mine:Late"),
        ({"name": "mine:Typed", "after": "soon"}, r"callbacks\[0\].after: expected a whole number"),
        ("mine:nobody", r"callbacks\[0\]: mine:nobody is called with a record, and cannot be: too many"),
        ("mine:number", r"callbacks\[0\].name: mine:number is an object of type int"),
        ("mine:Hook", r"callbacks\[0\].name: mine:Hook has no __call__\(self, record\), .*; it has on_round_end"),
        (3, r"callbacks\[0\]: a function of a fedray.RoundRecord is needed, .*; this is an int"),
    ],
)
def test_what_a_config_names_and_cannot_be_called_is_an_error_where_it_is_read(
    said: Any, message: str, here: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        bound(said)


def test_one_that_cannot_be_made_is_an_error_before_the_run(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^callbacks\[0\]: mine:Broken failed: OSError: no route to host .*mine.py:"):
        bound("mine:Broken").experiment(RunFolder(here / "run"))
    assert not (here / "run").exists()


def test_a_package_registers_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(callbacks, "_entries", {})

    @callbacks.register("early")
    @dataclass(frozen=True)
    class Early:
        """Ends a run early."""

        after: int = 1

        def __call__(self, record: RoundRecord) -> bool:
            return record.round == self.after

    config = bound({"name": "early", "after": 2})
    ended = run_in_sight(config.experiment(RunFolder(tmp_path / "run")), quiet=True)
    assert (len(ended.history), ended.by_callback) == (2, True)
    assert RunFolder(tmp_path / "run").summary()["early_stopped"] == "callbacks[0]: early ends the run"
    assert Config.load(tmp_path / "run" / "config.yaml").callbacks == (Early(2),)
