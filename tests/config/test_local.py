"""The section `local` says what a person meant, and counts what can be counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


def test_a_client_has_options_of_its_own_and_the_rest_of_all() -> None:
    section = bind(
        LocalSection, {"steps": 3, "batch_size": 8, "by_client": {7: {"epochs": 5}, "b": {"steps": 1}}}, "local"
    )
    assert section.own["7"] == replace(section, epochs=5, steps=None, by_client={})
    assert section.own["b"] == replace(section, steps=1, by_client={})
    assert list(section.own) == ["7", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": 3}, r"by_client\.a=3: it must be a section, such as"),
        ({"a": {"stack": 3}}, r"by_client\.a\.stack: unknown key; allowed: epochs, steps, batch_size, lr"),
        ({"a": {"lr": 0}}, r"by_client\.a\.lr=0: it must be a number above 0"),
        ({"a": {"lr": "x"}}, r"by_client\.a\.lr=x: it must be a number above 0"),
        ({"a": {"epoch": 3}}, r"by_client\.a\.epoch: unknown key \(did you mean 'epochs'\?\)"),
        ({"a": {"epochs": -3}}, r"by_client\.a: epochs=-3: it must be at least 0"),
        ({"a": {"batch_size": 0}}, r"by_client\.a: batch_size=0"),
        ({"a": {"steps": {"low": 3}}}, r"by_client\.a: steps\.high: a value is needed"),
    ],
)
def test_what_makes_no_sense_of_a_client_is_named_with_it(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^local: {message}"):
        bind(LocalSection, {"by_client": given}, "local")
