"""Each thing that bits depend on is named where it is another one."""

from __future__ import annotations

from fedray.core.hardware import machine, versions
from fedray.replay.doubts import doubts
from fedray.replay.recorded import Recorded
from fedray.replay.rounds import Replay
from tests.replay.conftest import Train


def test_nothing_is_doubted_here(train: Train) -> None:
    recorded = Recorded.read(train())
    plan = Replay(recorded).plan(1)
    assert list(doubts(recorded, {"machine": machine()}, plan, 1, 0.0)) == []


def test_each_cause_is_named(train: Train) -> None:
    recorded = Recorded.read(train())
    plan = Replay(recorded).plan(1)
    records = {1: {"train": {"lr": 0.5}, "usage": {"hardware": ["NVIDIA H100"]}}}
    other = Recorded(recorded.folder, records, {"versions": {**versions(), "numpy": "1.0", "ray": "1.0"}})
    found = list(doubts(other, {"machine": {**machine(), "torch": "2.0"}, "fingerprint": {"a.csv": "x"}}, plan, 1, 0.0))
    assert [doubt.place for doubt in found] == [True, True, True, False, False]
    assert [doubt.words.split(":")[0].split(" (")[0] for doubt in found] == [
        "torch",
        "workers had GPUs, and here they have none",
        "numpy",
        "the training data are others",
        "the learning rate was 0.5 and is now 0.1, as `rounds` was another number",
    ]
