"""The runs below a folder, in every state of a run's life."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.experiment.runs import list_runs, told_by
from fedray.rundir.lock import Owner
from fedray.rundir.names import LOCK

NOW = 2_000_000_000.0


def write(folder: Path, records: list[dict[str, Any]], status: str | None = None, changed: float = NOW - 60) -> Path:
    """A run folder with these records."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("rounds: 4\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    if status:
        (folder / "summary.json").write_text(json.dumps({"name": "mine", "status": status, "error": "a client raised"}))
    for path in folder.iterdir():
        os.utime(path, (changed, changed))
    return folder


def record(round: int, accuracy: float | None, **more: Any) -> dict[str, Any]:
    test = {"loss": 1.0 / round, "accuracy": accuracy}
    return {"round": round, "seconds": 2.0, "train": {"loss": 2.0 / round, "lr": 0.1}, "test": test, **more}


def test_a_line_tells_the_best_value_and_its_round(tmp_path: Path) -> None:
    write(tmp_path / "run", [record(1, 0.5), record(2, 0.9), record(3, None), record(4, 0.9)], "finished")
    (one,) = list_runs([tmp_path], NOW)
    assert (one.name, one.state, one.round, one.rounds, one.seconds) == ("mine", "finished", 4, 4, 8.0)
    assert (one.metric, one.best, one.best_round, one.last) == ("test.accuracy", 0.9, 2, 0.9)
    (one,) = list_runs([tmp_path], NOW, "test.loss")
    assert (one.metric, one.best, one.best_round) == ("test.loss", 0.25, 4)


def test_order_is_by_the_last_change_or_by_a_metric(tmp_path: Path) -> None:
    write(tmp_path / "old", [record(1, 0.9)], "finished", NOW - 900)
    write(tmp_path / "new", [record(1, 0.5)], "finished", NOW - 60)
    write(tmp_path / "none", [{"round": 1, "seconds": 1.0}], "failed", NOW - 100)
    assert [Path(one.folder).name for one in list_runs([tmp_path], NOW)] == ["new", "none", "old"]
    assert [Path(one.folder).name for one in list_runs([tmp_path], NOW, "test.accuracy")] == ["old", "new", "none"]
    assert [one.error for one in list_runs([tmp_path], NOW)] == [None, "a client raised", None]


def test_states_of_a_run_that_goes_on_and_one_that_was_killed(tmp_path: Path) -> None:
    write(tmp_path / "runs", [record(1, 0.5)])
    (tmp_path / "runs" / LOCK).write_text(json.dumps(asdict(Owner.me())))
    write(tmp_path / "killed", [record(1, 0.5)])
    found = {Path(one.folder).name: one for one in list_runs([tmp_path], NOW)}
    assert (found["runs"].state, found["runs"].under_way, found["runs"].left) == ("running", True, 6.0)
    assert (found["killed"].state, found["killed"].under_way, found["killed"].left) == ("interrupted", False, None)


def test_a_damaged_run_is_one_line_among_the_others(tmp_path: Path) -> None:
    write(tmp_path / "good", [record(1, 0.5)], "finished")
    write(tmp_path / "bad", [])
    (tmp_path / "bad" / "metrics.jsonl").write_text("nonsense\n{}\n")
    found = {Path(one.folder).name: one for one in list_runs([tmp_path], NOW)}
    assert found["good"].state == "finished"
    assert found["bad"].state == "damaged"
    assert found["bad"].error is not None
    assert "metrics.jsonl:1" in found["bad"].error


def test_the_metric_that_stands_for_a_run() -> None:
    spread = {"mean": 0.8, "worst": 0.1}
    clients = {"round": 1, "train": {"lr": 0.1, "loss": 1.0}, "clients_test": {"loss": spread, "accuracy": spread}}
    personal = clients | {"clients_personal": {"accuracy": spread}}
    assert told_by([]) is None
    assert [
        one.metric for one in map(told_by, ([{"round": 1, "train": {"loss": 1.0}}], [clients], [personal])) if one
    ] == [
        "train.loss",
        "clients_test.accuracy.mean",
        "clients_personal.accuracy.mean",
    ]


@pytest.mark.parametrize(("folder", "metric", "words"), [("none", None, "no such folder"), (".", "accuracy", "--by")])
def test_what_is_refused(tmp_path: Path, folder: str, metric: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        list_runs([tmp_path / folder], NOW, metric)
