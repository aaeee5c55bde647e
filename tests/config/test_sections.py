"""The sections refuse what makes no sense, in words that name it, and their defaults make sense."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.binding import bind
from fedray.config.sections import (
    SECTIONS,
    ClusterSection,
    DriverSection,
    ExperimentSchema,
    SlurmSection,
    WorkerSection,
    check_gpus,
)
from fedray.core.errors import ConfigError


def test_every_section_has_a_place_at_the_top_and_no_two_options_of_it_share_a_line() -> None:
    top = {field.name for field in dataclasses.fields(ExperimentSchema)}
    assert set(SECTIONS) <= top
    for key, section in SECTIONS.items():
        assert bind(section, None, key) == section() == bind(section, {}, key)


@pytest.mark.parametrize(
    ("key", "node", "message"),
    [
        ("local", {"batch_size": 0}, "batch_size=0: it must be at least 1, or full"),
        ("local", {"batch_size": "half"}, "batch_size=half"),
        ("local", {"epochs": -1}, "epochs=-1"),
        ("local", {"steps": -1}, "steps=-1"),
        ("local", {"stack": 0}, "stack=0: it must be auto, off, at least 1, lanes, or lanes:8"),
        ("local", {"stack": True}, "stack=True"),
        ("local", {"stack": "on"}, "stack=on"),
        ("cluster", {"workers": 0}, "workers=0: it must be at least 1, or auto"),
        ("cluster", {"start_timeout": 0}, "start_timeout above 0"),
        ("worker", {"threads": 0}, "threads=0: it must be from 1 to 10000"),
        ("worker", {"gpus": 1.5}, "only one GPU can be shared"),
        ("driver", {"cpus": -1}, "cpus=-1: it must be from 0 to 10000"),
        ("evaluate", {"every": -1}, "every=-1"),
        ("evaluate", {"keep_clients": 0}, "keep_clients=0: it must be at least 1, or null for all"),
        ("failures", {"min_share": 1.5}, "min_share=1.5: it must be from 0 to 1"),
        ("failures", {"block_timeout": 0}, "block_timeout=0.0"),
        ("failures", {"left_out": {0: ["a"]}}, "rounds count from 1, got 0"),
        ("checkpoint", {"keep": 0}, "keep at least 1"),
        ("checkpoint", {"seconds": float("inf")}, "every and seconds"),
        ("budget", {"gpu_hours": 0}, "gpu_hours=0.0: it must be above 0"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_section(key: str, node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: .*{message}"):
        bind(SECTIONS[key], node, key)


@given(st.floats(0, 64))
def test_a_gpu_is_shared_or_whole(gpus: float) -> None:
    whole = gpus == int(gpus)
    if gpus <= 1 or whole:
        check_gpus(gpus)
        assert WorkerSection(gpus=gpus).gpus == gpus
    else:
        with pytest.raises(ValueError, match="whole number"):
            check_gpus(gpus)


def test_slurm_waits_longer_and_wants_its_time_in_quotes() -> None:
    assert (ClusterSection().patience, SlurmSection().patience) == (120.0, 300.0)
    assert SlurmSection(start_timeout=7.0).patience == 7.0
    with pytest.raises(ConfigError, match="time=43200: put it in quotes"):
        bind(SlurmSection, {"time": 43200}, "cluster")
    for wrong in ({"nodes": 0}, {"cpus_per_task": 0}, {"gpus_per_node": -1}, {"grace": 0}, {"max_requeues": -1}):
        with pytest.raises(ConfigError, match=r"^cluster: "):
            bind(SlurmSection, wrong, "cluster")


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
