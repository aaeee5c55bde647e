"""The progress of a run below a cell."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from fedray.core.record import RoundRecord
from fedray.core.stages import Stage
from fedray.tracking import RunInfo, notebook
from fedray.tracking.notebook import Notebook

Drawn = list[tuple[str, str]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """HTML and text of each drawing."""
    every: Drawn = []

    class Output:
        def __init__(self, html: str, text: str) -> None:
            self.show(html, text)

        def show(self, html: str, text: str) -> None:
            every.append((html, text))

    monkeypatch.setattr(notebook, "Output", Output)
    return every


def play(shown: Notebook, rounds: int) -> None:
    shown.start(RunInfo(Path("runs/x"), "digits", rounds, clients=3, parameters=10))
    shown.stage(Stage("starting Ray"))
    for number in range(1, rounds + 1):
        shown.round(RoundRecord(number, seconds=0.5, train={"loss": 1 / number}, test={"accuracy": number / rounds}))


def test_from_the_stages_to_the_table(drawn: Drawn) -> None:
    shown = Notebook(["open it"], every=0)
    play(shown, 3)
    shown.note("stopping")
    shown.finish({"seconds": 61.0})
    shown.close()
    assert [text.splitlines()[0] for _, text in drawn[:3]] == [
        "digits: round 0/3  ",
        "digits: round 0/3  starting Ray",
        "digits: round 1/3  2 rounds/s  0:01 left  train.loss 1  test.accuracy 0.3333",
    ]
    html, text = drawn[-1]
    for word in (
        "digits",
        "round 3 of 3",
        "1:01",
        "stopping",
        "run folder: runs/x",
        "open it",
        "<svg",
        "train.loss",
    ):
        assert word in html, word
    assert text.splitlines()[1:3] == ["rounds  3 of 3", "time  1:01"]


def test_fast_rounds_are_drawn_now_and_then_and_the_last_always(drawn: Drawn) -> None:
    shown = Notebook(every=10, clock=map(float, itertools.count()).__next__)
    play(shown, 100)
    shown.close()
    told = [text.split("/")[0] for _, text in drawn]
    assert 5 < len(told) < 30
    assert told[-1] == "digits: round 100"


def test_a_run_that_breaks_off_shows_its_last_round(drawn: Drawn) -> None:
    shown = Notebook(every=1000, clock=lambda: 0.0)
    shown.start(RunInfo(Path("runs/x"), "digits", 9))
    for number in (1, 2, 3):
        shown.round(RoundRecord(number, seconds=0.5))
    shown.close()
    assert drawn[-1][1].startswith("digits: round 3/9")
