"""The state of a run in words; what a terminal makes of them is tested there."""

from __future__ import annotations

from pathlib import Path

from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo
from fedray.tracking.progress import Progress, at_the_end


def test_what_was_not_measured_is_as_it_was() -> None:
    told = Progress(RunInfo(Path("runs/x"), "x", 10))
    told.add(RoundRecord(1, seconds=2.0, train={"loss": 0.5}, test={"accuracy": 0.25}))
    told.add(RoundRecord(2, seconds=4.0, train={"loss": 0.25}))
    assert told.words() == "3 s/round  0:24 left  train.loss 0.25  test.accuracy 0.25"
    assert told.round == 2


def test_a_run_that_met_its_limit_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    lines = at_the_end(tmp_path, {"budget": "budget.seconds is used up"}, ["look"])
    said = f"budget.seconds is used up; to go on: fedray resume {tmp_path} budget.seconds=MORE"
    assert lines == [f"run folder: {tmp_path}", said, "look"]
    words = "callbacks[0]: mine:f ends the run"  # of which there is no more to be had
    said = f"{words}; to go on: fedray resume {tmp_path}"
    assert at_the_end(tmp_path, {"early_stopped": words}, []) == [f"run folder: {tmp_path}", said]


def test_one_answer_for_all_is_said_before_all_else(tmp_path: Path) -> None:
    lines = at_the_end(tmp_path, {"one_answer": "one class is the only answer: 'no' for all"}, ["look"])
    assert lines == ["one class is the only answer: 'no' for all", f"run folder: {tmp_path}", "look"]


def test_newcomers_are_counted_at_the_end() -> None:
    told = Progress(RunInfo(Path("runs/x"), "x", 10))
    own = {"loss": {"mean": 0.5}}
    told.add(RoundRecord(1, clients_personal=own, evaluated={"clients": 1200, "missing": 3, "taken_part": 180}))
    rows = dict(told.table({}))
    assert rows["newcomers"] == "1,020 of 1,200 clients have not taken part yet, and are evaluated as such"
    assert rows["not evaluated"].startswith("3 of 1,203 clients")
    told.add(RoundRecord(2, clients_personal=own, evaluated={"clients": 1200, "missing": 0, "taken_part": 1200}))
    assert "newcomers" not in dict(told.table({}))


def test_what_a_run_claims_of_privacy_stands_at_its_end() -> None:
    told = Progress(RunInfo(Path("runs/x"), "x", 10))
    claim = "(8, 1e-05)-differential privacy of each client"
    assert dict(told.table({"privacy": {"claim": claim, "epsilon": 8.0}}))["privacy"] == claim
    assert "privacy" not in dict(told.table({}))


def test_what_is_spent_of_privacy_is_told_as_the_last_record_has_it() -> None:
    told = Progress(RunInfo(Path("runs/x"), "x", 10))
    told.add(RoundRecord(1, metrics={"privacy": {"noise_std": 0.1, "epsilon_rdp": 2.5, "epsilon": 2.0}}))
    assert told.words() == "privacy.epsilon 2"
    told.add(RoundRecord(2, metrics={"privacy": {"noise_std": 0.1, "epsilon_rdp": 3.5}}))
    assert told.words() == "privacy.epsilon_rdp 3.5"
