"""The two ways a run ends badly."""

from __future__ import annotations


class ConfigError(ValueError):
    """A mistake in what the user gave us: one to three lines, what is wrong, allowed, and to do."""


class RunFailed(RuntimeError):
    """A run that cannot go on: what failed, in which round and client."""
