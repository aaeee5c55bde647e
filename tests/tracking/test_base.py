"""The contract of trackers: every hook may be left out, and none may be called for nothing."""

from __future__ import annotations

from pathlib import Path

from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, Tracker, hints_of_all


def test_hooks_that_are_left_out_do_nothing(tmp_path: Path) -> None:
    tracker = Tracker()
    tracker.start(RunInfo(tmp_path, "x", 1))
    tracker.round(RoundRecord(1))
    tracker.finish({})
    tracker.close()
    tracker.close()
    assert list(tmp_path.iterdir()) == []
    assert (tracker.hint(tmp_path), tracker.hint_of_all(tmp_path)) == ("", "")


def test_hints_of_several_runs_are_of_those_that_have_one(tmp_path: Path) -> None:
    class Board(Tracker):
        def hint_of_all(self, folder: Path) -> str:
            return f"look into {folder.name}"

    assert hints_of_all([Tracker(), Board(), "own:Tracker"], tmp_path) == [f"look into {tmp_path.name}"]


def test_what_is_known_of_a_run_is_compared_by_identity(tmp_path: Path) -> None:
    # Its label counts are an array, which has no single answer to ==.
    info = RunInfo(tmp_path, "x", 1)
    assert info == info
    assert info != RunInfo(tmp_path, "x", 1)
