"""metrics.jsonl: one line per round whatever happened on the way."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.tracking import JsonLines, RunInfo, read_records

LAST = 8


def info(folder: Path, resumed_from: int = 0) -> RunInfo:
    return RunInfo(folder, "test", rounds=LAST, resumed_from=resumed_from)


def session(path: Path, resumed_from: int, rounds: range, mark: int = 0) -> None:
    """A process that writes the records of some rounds; ``mark`` tells whose they are."""
    lines = JsonLines(path)
    lines.start(info(path.parent, resumed_from))
    for number in rounds:
        lines.round(RoundRecord(number, examples=mark, train={"loss": 1 / (1 + number)}))
    lines.close()


def rounds(path: Path) -> list[int]:
    return [record["round"] for record in read_records(path)]


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = RoundRecord(
        1, 0.5, {"train": 0.25}, {"ok": 2, "failed": 1}, 40, {"loss": 0.125}, failures=[{"client": "é"}]
    )
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.start(info(tmp_path))
    lines.round(record)
    lines.close()
    assert [RoundRecord.from_json(read) for read in read_records(tmp_path / "metrics.jsonl")] == [record]


def test_each_line_is_there_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.start(info(tmp_path))
    for number in (0, 1, 2):
        lines.round(RoundRecord(number))
        assert path.read_text().endswith("\n")
        assert rounds(path) == list(range(number + 1))
    lines.close()
    lines.close()


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.start(info(tmp_path))
    lines.round(RoundRecord(1, train={"loss": float("nan")}, test={"loss": float("inf")}))
    lines.close()
    assert "NaN" not in path.read_text()
    assert json.loads(path.read_text())["train"] == {"loss": None}


@given(cut=st.integers(0, 200), junk=st.sampled_from([b"", b"\0\0\0", b"\n", b"\xff\xfe\n", b"[1]\n", b"{}\n"]))
def test_a_torn_end_costs_no_whole_record(cut: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        session(path, 0, range(1, 6))
        whole = path.read_bytes()
        kept = whole[: max(0, len(whole) - cut)]
        # A record is whole with its last brace, with or without the newline.
        expected = list(range(1, 1 + sum(kept[: end + 1].endswith(b"}") for end in brace_ends(kept))))
        if kept.endswith(b"\n") or not kept:
            kept += junk
        path.write_bytes(kept)
        assert rounds(path) == expected
        session(path, 9, range(10, 11))
        assert rounds(path) == [*expected, 10]
        assert path.read_bytes().count(b"\n") == len(expected) + 1


def brace_ends(text: bytes) -> list[int]:
    """Where the records of ``text`` end: its lines are objects with an inner one, so every second closing brace."""
    return [place for place, byte in enumerate(text) if byte == ord("}")][1::2]


def test_a_bad_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round": 1}\n{"round": \n{"round": 3}\n')
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:2: not the record of a round"):
        read_records(path)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:2"):
        JsonLines(path).start(info(tmp_path, 1))


def test_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_records(tmp_path / "metrics.jsonl")


def test_an_empty_file_holds_no_records(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    assert read_records(tmp_path / "metrics.jsonl") == []


def test_a_fresh_start_drops_the_rounds_of_a_run_that_never_reached_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    session(path, 0, range(4), mark=1)
    session(path, 0, range(3), mark=2)
    assert [(r["round"], r["examples"]) for r in read_records(path)] == [(0, 2), (1, 2), (2, 2)]


@st.composite
def kills(draw: st.DrawFn) -> list[tuple[bool, int, int, int]]:
    """Sessions that end in a kill: is the first round told again, rounds, bytes lost of the last line, checkpoint."""
    one = st.tuples(st.booleans(), st.integers(0, LAST), st.integers(0, 60), st.integers(0, LAST))
    return draw(st.lists(one, max_size=5))


@given(kills())
def test_kills_leave_one_line_per_round(sessions: list[tuple[bool, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        start, expected = 0, dict[int, int]()
        for mark, (again, count, lost, checkpoint) in enumerate([*sessions, (False, LAST + 1, 0, 0)]):
            # A checkpoint holds what is known of its round's record, so one that is not in the file is told again.
            first = start if again or start not in expected else start + 1
            told = range(first, min(first + count, LAST + 1))
            session(path, start, told, mark)
            expected = {r: m for r, m in expected.items() if r <= start} | dict.fromkeys(told, mark)
            if told and lost:
                text = path.read_bytes()
                line = text.splitlines(keepends=True)[-1]
                path.write_bytes(text[: len(text) - min(lost, len(line))])
                if lost > 1:  # more than the newline
                    del expected[told[-1]]
            # The last checkpoint may be ahead of the records by one round.
            start = min(checkpoint, max(expected, default=-1) + 1)
        assert [(r["round"], r["examples"]) for r in read_records(path)] == sorted(expected.items())
        assert rounds(path) == list(range(LAST + 1))


def test_a_round_told_again_replaces_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    session(path, 0, range(1, 5), mark=1)
    session(path, 3, range(3, 6), mark=2)
    assert [(r["round"], r["examples"]) for r in read_records(path)] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_a_rewrite_that_fails_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    session(path, 0, range(1, 5))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            JsonLines(path).start(info(tmp_path, 2))
    assert path.read_bytes() == before
    session(path, 2, range(3, 5))
    assert rounds(path) == [1, 2, 3, 4]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_clean_resume_touches_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    session(path, 0, range(1, 5))
    inode = path.stat().st_ino
    session(path, 4, range(5, 7))
    assert path.stat().st_ino == inode
    assert rounds(path) == [1, 2, 3, 4, 5, 6]


def test_a_record_without_a_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before start"):
        JsonLines(tmp_path / "metrics.jsonl").round(RoundRecord(1))
