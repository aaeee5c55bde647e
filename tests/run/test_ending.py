"""Why a run ends before its last round: which reason counts, and who is asked for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fedray
from fedray.config.sections import BudgetSection, StopSection
from fedray.run import ending
from fedray.run.budget import Totals
from fedray.run.ending import ending_again, gone_on_after, lost_callbacks, reason_to_end
from fedray.run.watch import STOP, Watch
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import COMPLETE

PATIENCE = "stop.patience is used up: 3 rounds with no test.loss better than 0.5, of round 1"
WORDS = "callbacks[0]: mine:f ends the run"


@pytest.mark.parametrize(
    ("round", "budget", "waited", "words", "reason"),
    [
        (1, None, 0, None, None),
        (1, None, 0, WORDS, ("early_stopped", WORDS)),
        (1, 1, 0, WORDS, ("budget", "budget.last_round is done: 1")),
        (1, None, 3, WORDS, ("early_stopped", PATIENCE)),
        (2, 1, 3, WORDS, None),
    ],
)
def test_one_reason_counts_and_none_after_the_last_round(
    round: int, budget: int | None, waited: int, words: str | None, reason: Any
) -> None:
    stop = StopSection("test.loss", patience=3)
    plan: Any = SimpleNamespace(rounds=2, budget=BudgetSection(last_round=budget), stop=stop)
    watches = {STOP: Watch(0.5, round=1, waited=waited)}
    state: Any = SimpleNamespace(round=round, totals=Totals(), watches=watches)
    assert reason_to_end(plan, state, None, lambda: words) == reason


@pytest.mark.parametrize("status", [*COMPLETE, "stopped", "failed", None])
def test_only_a_run_that_had_come_to_its_end_is_gone_on_with(status: str | None) -> None:
    summary = {"status": status, "rounds": 4} if status else {}
    assert gone_on_after(summary) == (4 if status in ("finished", "early_stopped") else 0)


@pytest.mark.parametrize(
    ("saved", "summary", "again"),
    [
        ({"ended_by": WORDS}, {}, True),
        ({"ended_by": WORDS}, {"status": "early_stopped", "rounds": 3}, True),
        ({"ended_by": WORDS}, {"status": "early_stopped", "rounds": 5}, False),
        ({"ended_by": WORDS}, {"status": "stopped", "rounds": 5}, True),
        ({"ended_by": WORDS}, {"status": "stopped", "rounds": 5, "gone_on_after": 5}, False),
        ({"ended_by": WORDS}, {"status": "stopped", "rounds": 5, "gone_on_after": 3}, True),
        ({"ended_by": None}, {}, False),
        ({}, {}, False),
    ],
)
def test_a_reason_that_was_said_to_the_end_is_not_said_again(
    saved: dict[str, Any], summary: dict[str, Any], again: bool
) -> None:
    said = ending_again(Checkpoint(5, {}, saved), summary)
    assert (said is not None and said() == WORDS) == again


def test_of_those_that_are_gone_python_alone_had_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "callbacks", {"quit": object})  # of a package, which a config names
    saved = {"callbacks": ["study.show", "study:f", "quit", "study.check"]}
    (words,) = lost_callbacks(saved, ("study.show",))
    assert words.startswith("the callbacks of the Python that started this run (study.check) are not there")
    assert list(lost_callbacks({}, ())) == []


@pytest.mark.parametrize("every", [0, 1])
def test_a_callback_that_a_budget_forestalled_ends_the_run_once_there_is_more_of_it(every: int, tmp_path: Path) -> None:
    """As it would have without the budget, such as that of a sweep that pauses its runs."""
    data = {"name": "synthetic", "clients": 2, "examples": 4, "features": 2, "classes": 2, "test": 4}
    place: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False}

    def train(last: int | None, resume: bool) -> tuple[str, int]:
        args = fedray.TrainArgs(rounds=4, checkpoint_every=every, last_round=last, tracking=[])
        listens = [lambda record: record.round == 2]
        fedray.train(fedray.FederatedModel("logistic"), data, args, callbacks=listens, resume=resume, **place)
        summary = RunFolder(tmp_path / "run").summary()
        return summary["status"], summary["rounds"]

    assert train(2, resume=False) == ("budget", 2)
    assert train(None, resume=True) == ("early_stopped", 2)
    assert train(None, resume=True) == ("finished", 4)
