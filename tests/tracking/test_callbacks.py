"""Functions that are called after each round: when, with what, and how they end a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.nn.functional import cross_entropy

import fedray
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.rundir.folder import RunFolder
from fedray.tracking.callbacks import Callbacks
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
def test_true_stops_the_run_after_that_round_and_it_goes_on_to_the_same_bits(
    last: int, tmp_path: Path, quiet: list[tuple[Any, ...]]
) -> None:
    folder = tmp_path / "run"
    stopped = train(folder, [Watch(folder, last)])
    assert (stopped.stopped, len(stopped.history)) == (True, last)
    assert (RunFolder(folder).summary()["status"], RunFolder(folder).summary()["rounds"]) == ("stopped", last)
    assert not (folder / "model.safetensors").exists()
    watch = Watch(folder)
    result = train(folder, [watch], resume=True)
    assert not result.stopped
    assert [record["round"] for record in read_records(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert {record.round for record in watch.records} >= set(range(last + 1, 6))
    assert [(r.train, r.test, r.model_sha256) for r in result.history] == [
        (train, test, sha256) for _, train, test, _, _, _, _, sha256 in quiet
    ]


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
    assert (told is not None) == stops


def test_all_are_called_even_if_the_first_stops_the_run() -> None:
    seen: list[int] = []
    callbacks = Callbacks([lambda record: True, lambda record: seen.append(record.round)])
    assert callbacks.tell(RoundRecord(7)) == callbacks.names[0]
    assert seen == [7]


def test_names_are_those_of_the_functions(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    given: list[Callable[[RoundRecord], Any]] = [repr, partial(repr), watch, watch.records.append]
    assert Callbacks(given).names == ("builtins.repr", "builtins.repr", f"{__name__}.Watch", "builtins.list.append")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (print, "callbacks: a list of functions is needed, such as .print.; this is a builtin_function_or_method"),
        ("print", "callbacks: a list of functions is needed"),
        ([print, 3], r"callbacks\[1\]: a function of a fedray.RoundRecord is needed, such as print; this is an int"),
        ([Watch], r"callbacks\[0\]: .* this is the class Watch"),
    ],
)
def test_what_cannot_be_called_is_refused_before_the_run(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        train(tmp_path / "run", given)
    assert not (tmp_path / "run").exists()
