"""The two ways a run ends badly, and other errors in one line."""

from __future__ import annotations


class ConfigError(ValueError):
    """A mistake in what the user gave us: one to three lines, what is wrong, allowed, and to do."""


class RunFailed(RuntimeError):
    """A run that cannot go on: what failed, in which round and client."""


def one_line(error: BaseException) -> str:
    """Type and text of an error.

    >>> one_line(ValueError("first\\n  second"))
    'ValueError: first second'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())
