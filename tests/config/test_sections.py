"""The sections of a config: which numbers they take."""

from __future__ import annotations

import dataclasses
import math

import pytest

from fedray.config.binding import bind
from fedray.config.sections import SECTIONS, DriverSection, LocalSection, SlurmSection, WorkerSection
from fedray.core.errors import ConfigError

NUMBERS = [
    (key, section, option.name)
    for key, section in [*SECTIONS.items(), ("cluster", SlurmSection)]
    for option in dataclasses.fields(section)
    if "float" in str(option.type)
]


@pytest.mark.parametrize(("key", "section", "option"), NUMBERS)
def test_no_option_takes_what_is_no_number(key: str, section: type, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}.*{option}"):
        bind(section, {option: math.nan}, key)


@pytest.mark.parametrize("section", [WorkerSection, DriverSection])
def test_resources_are_those_of_a_machine(section: type) -> None:
    for option in {"cpus", "gpus", "memory"} & {field.name for field in dataclasses.fields(section)}:
        for amount in (-1.0, math.inf, 1e20):
            with pytest.raises(ConfigError, match=f"{option}=.*: it must be from 0 to 10000"):
                bind(section, {option: amount}, "x")


def test_steps_can_be_counted() -> None:
    """So that epochs times batches are exact in the integers of numpy and torch."""
    for option in ("epochs", "steps", "batch_size"):
        assert getattr(bind(LocalSection, {option: 10**9}, "local"), option) == 10**9
        with pytest.raises(ConfigError, match=f"^local: {option}=.* at most 1000000000"):
            bind(LocalSection, {option: 10**9 + 1}, "local")
