"""The wait before a run, as a terminal, a pipe and nobody see it."""

from __future__ import annotations

import io
import re
import sys

import pytest
import rich.console

from fedray.core.stages import along, stage
from fedray.core.waiting import waiting

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def console(*, terminal: bool) -> tuple[io.StringIO, rich.console.Console]:
    out = io.StringIO()
    environment = {"TERM": "xterm"} if terminal else {}
    return out, rich.console.Console(file=out, width=80, force_terminal=terminal, _environ=environment)


def two_stages() -> None:
    for _ in along(["a.csv", "b.csv"], "reading [tables]"):
        pass
    stage("trying the model")


def test_a_pipe_has_a_line_for_each_stage() -> None:
    out, to = console(terminal=False)
    with waiting(console=to):
        two_stages()
    assert out.getvalue() == "reading [tables] (2)\ntrying the model\n"


def test_nobody_who_is_quiet_sees_anything(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting(quiet=True):
        two_stages()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_one_line_which_is_gone_afterwards() -> None:
    out, to = console(terminal=True)
    with waiting(console=to):
        for name in along(["a.csv", "b.csv"], "reading [tables]"):
            to.print(f"a warning of {name}")
        stage("trying the model")
        to.print("another")
    text = out.getvalue()
    assert "reading [tables]" in text
    assert "0/2" in text
    assert "trying the model" in text
    seen = re.sub(r"\x1b\[2K", "", text)
    assert seen.rstrip().endswith("\x1b[1A")  # up again, over the line that is gone
    assert text.rindex(SHOW) > text.rindex(HIDE)


def test_without_a_stage_a_terminal_stays_as_it_is() -> None:
    out, to = console(terminal=True)
    with waiting(console=to):
        pass
    assert HIDE not in out.getvalue()


def test_an_error_leaves_the_terminal_as_it_was() -> None:
    out, to = console(terminal=True)
    before = sys.stdout, sys.stderr

    def fail() -> None:
        with waiting(console=to):
            stage("trying")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert (sys.stdout, sys.stderr) == before
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)
