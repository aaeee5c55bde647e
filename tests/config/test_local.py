"""The section `local` says what a person meant, and counts what can be counted."""

from __future__ import annotations

import pytest

from fedray.config.binding import bind
from fedray.config.local import LocalSection
from fedray.core.errors import ConfigError


def test_what_yaml_makes_of_off_and_null_is_what_a_person_meant() -> None:
    assert LocalSection(stack=False).stack == "off"
    assert LocalSection(batch_size=None).batch_size == "full"


def test_steps_can_be_counted() -> None:
    """So that epochs times batches are exact in the integers of numpy and torch."""
    for option in ("epochs", "steps", "batch_size"):
        assert getattr(bind(LocalSection, {option: 10**9}, "local"), option) == 10**9
        with pytest.raises(ConfigError, match=f"^local: {option}=.* at most 1000000000"):
            bind(LocalSection, {option: 10**9 + 1}, "local")
