"""Output that nobody reads stops nothing, or ends without a word what is there for it alone."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from fedray.core.unread import ENDED, ending_unread, lasting_output

WORK = """
import sys
from pathlib import Path
from fedray.core.unread import ending_unread, lasting_output, say
with lasting_output():
    for turn in range(2_000):
        print("a line of many that fill the pipe", turn)
    print("its end", file=sys.stderr)
    say(b"past the streams")
    Path(sys.argv[1]).write_text("done")
"""
ONLY_PRINTS = WORK.replace("with lasting_output():", "with lasting_output(), ending_unread():")


def unread(program: str, done: Path, both: bool, flags: tuple[str, ...] = ()) -> tuple[int, bytes]:
    """Run a program whose output nobody reads, and return its status with what it says on standard error.

    Args:
        program: of Python.
        done: the file that it writes at its end.
        both: nobody reads standard error, either.
        flags: of Python.
    """
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, *flags, "-c", program, str(done)]
    try:
        ended = subprocess.run(command, stdout=writes, stderr=writes if both else subprocess.PIPE)
    finally:
        os.close(writes)
    return ended.returncode, ended.stderr or b""


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("flags", [(), ("-u",)])
def test_work_goes_on_and_ends_well(flags: tuple[str, ...], both: bool, tmp_path: Path) -> None:
    status, said = unread(WORK, tmp_path / "done", both, flags)
    assert (status, said) == (0, b"" if both else b"its end\npast the streams")
    assert (tmp_path / "done").read_text() == "done"


@pytest.mark.parametrize("both", [False, True])
def test_what_only_prints_ends_there_as_a_shell_has_it(both: bool, tmp_path: Path) -> None:
    assert unread(ONLY_PRINTS, tmp_path / "done", both) == (ENDED, b"")
    assert ENDED == 141
    assert not (tmp_path / "done").exists()
    # A single line stays in Python's buffer until the end.
    assert unread(ONLY_PRINTS.replace("2_000", "1"), tmp_path / "done", both)[0] == ENDED


def test_a_terminal_that_was_closed_is_one_that_nobody_reads(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    ended = subprocess.run([sys.executable, "-c", WORK, str(tmp_path / "done")], stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert (ended.returncode, (tmp_path / "done").exists()) == (0, True)


def test_other_errors_are_told(tmp_path: Path) -> None:
    """As that of a full disk, where somebody wants to keep the output."""
    command = [sys.executable, "-c", WORK, str(tmp_path / "done")]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert b"No space left" in ended.stderr


def test_streams_that_somebody_put_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = io.StringIO()
    monkeypatch.setattr(sys, "stdout", theirs)
    with lasting_output(), ending_unread():
        print("to them")
        assert sys.stdout is theirs
    assert theirs.getvalue() == "to them\n"
