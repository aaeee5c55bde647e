"""Errors in one line, and which of them are the user's."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

import pytest

from fedray.core.errors import ConfigError, RunFailed, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n   second\tthird"), "ValueError: first second third"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), "RuntimeError:"),
    ],
)
def test_an_error_of_several_lines_becomes_one(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_a_users_mistake_is_told_from_a_failed_run() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(RunFailed, RuntimeError)
    assert not issubclass(RunFailed, ConfigError)


@pytest.mark.parametrize("kind", [ConfigError, RunFailed])
def test_a_notebook_shows_its_words_without_the_frames_of_fedray(
    kind: type[ConfigError] | type[RunFailed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # IPython warns of one that this interpreter is not of
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    try:
        raise kind("rounds=0: it must be at least 1")
    except kind:
        with redirect_stdout(StringIO()) as shown:
            shell.showtraceback()
    shell.clear_instance()
    assert shown.getvalue().strip() == f"{kind.__name__}: rounds=0: it must be at least 1"


def test_the_frames_of_cpp_are_left_out() -> None:
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**45)
    said = one_line(raised.value)
    assert "you tried to allocate" in said
    assert "enforce fail" not in said
    framed = RuntimeError(
        "numel: integer multiplication overflow\nException raised from numel at Tensor.h:1\nframe #0: c10"
    )
    assert one_line(framed) == "RuntimeError: numel: integer multiplication overflow"
