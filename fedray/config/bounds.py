"""The bounds that options of many parts have, each with its words."""

from __future__ import annotations


def check_above_0(**options: float) -> None:
    """Raise ValueError unless each of these options is above 0.

    >>> check_above_0(lr=0.1, tau=0.0)
    Traceback (most recent call last):
    ...
    ValueError: tau=0.0: it must be above 0
    """
    for name, value in options.items():
        if not value > 0.0:
            raise ValueError(f"{name}={value}: it must be above 0")


def check_at_least_0(**options: float) -> None:
    """Raise ValueError unless each of these options is at least 0."""
    for name, value in options.items():
        if not value >= 0.0:
            raise ValueError(f"{name}={value}: it must be at least 0")


def check_at_least_1(**options: int) -> None:
    """Raise ValueError unless each of these options is at least 1."""
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1")


def check_decays(**options: float) -> None:
    """Raise ValueError unless each of these options is at least 0 and below 1."""
    for name, value in options.items():
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name}={value}: it must be at least 0 and below 1")
