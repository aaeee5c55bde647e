"""Errors in one line, and which of them are the user's."""

from __future__ import annotations

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
