"""Why a run ends before its last round: which reason counts, and who is asked for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fedray.config.sections import BudgetSection, StopSection
from fedray.run import ending
from fedray.run.budget import Totals
from fedray.run.ending import ending_again, gone_on_after, lost_callbacks, reason_to_end
from fedray.run.watch import STOP, Watch
from fedray.rundir.checkpoint import Checkpoint
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
    assert gone_on_after(summary) == (4 if status in COMPLETE else 0)


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
