"""Annotated names of a class of one's own are options, or the class is refused where it is named, from both faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from torch import nn

import fedray
from fedray import parts
from fedray.algorithms.base import algorithms
from fedray.config.annotated import check_annotated, undecorated
from fedray.config.registry import bind_part, made
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.sampling import samplers
from fedray.tracking import trackers
from fedray.transforms import transforms


class Proximal(parts.Algorithm):
    mu: float = 0.1


class Uniform(fedray.FedAvg):
    """The base has this option: what stands here is never looked at."""

    weight: Any = "uniform"


class First(parts.Sampler):
    clients: int = 1

    def cohort(self, sizes: Any, seed: int, round: int) -> Any:
        return sizes[: self.clients]

    def expected(self, sizes: Any) -> float:
        return float(self.clients)


class Scaled(parts.Transform):
    by: float


class Below(Proximal):
    """It has the annotation of what it stands on."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Proximal, "Proximal.mu"),
        (Uniform, "Uniform.weight"),
        (First, "First.clients"),
        (Scaled, "Scaled.by"),
        (Below, "Proximal.mu"),
    ],
)
def test_an_annotated_name_that_nobody_can_set_is_refused_with_what_to_write(kind: type, name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_annotated(kind, "part")
    owner, _, option = name.partition(".")
    said = str(raised.value)
    assert said.startswith(f"part: nobody can set {name}, as {owner} is no dataclass: write @dataclass(frozen=True) ")
    assert f"{option}: ClassVar[...]" in said
    assert "\n" not in said


@dataclass(frozen=True)
class Decorated(parts.Algorithm):
    mu: float = 0.1


class Silent(Decorated):
    """Nothing is annotated."""

    limit = 3


class Constants(parts.Algorithm):
    uses_server: bool = True  # type: ignore[misc]
    most: ClassVar[int] = 3
    least: Final = 1
    _cache: Any = None


class Counts(parts.Tracker):
    seen: int = 0

    def round(self, record: Any) -> None:
        self.seen += 1


class Given(parts.Transform):
    by: float

    def __init__(self, by: float = 1.0) -> None:
        self.by = by


class Wider(Given):
    by: float = 2.0


class Net(nn.Module):
    hidden: int = 32


class Plain:
    share: float = 0.5


@pytest.mark.parametrize("kind", [Decorated, Silent, Constants, Counts, Given, Wider, Net, Plain, fedray.FedPer, Path])
def test_options_constants_and_what_a_class_keeps_are_left_alone(kind: type) -> None:
    check_annotated(kind, "part")


MINE = """
from dataclasses import dataclass
from fedray import parts
class Proximal(parts.Algorithm):
    mu: float = 0.1
def make():
    return Proximal()
class Load:
    rows: int = 8
    def load(self, seed, sites):
        ...
"""


def test_both_faces_and_all_ways_to_name_it_refuse_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("undecorated_parts.py").write_text(MINE)
    line = (
        r"^algorithm: nobody can set Proximal\.mu, as Proximal is no dataclass: write @dataclass\(frozen=True\) above"
    )
    section = {"name": "undecorated_parts:Proximal", "mu": 0.2}
    for node in (Proximal(), section, "undecorated_parts:Proximal", "undecorated_parts:make"):
        with pytest.raises(ConfigError, match=line):
            made(bind_part(algorithms, node, "algorithm"))
    entered = algorithms.register("undecorated-for-a-test")(Proximal)
    try:
        with pytest.raises(ConfigError, match=line):
            bind_part(algorithms, "undecorated-for-a-test", "algorithm")
    finally:
        del algorithms._entries["undecorated-for-a-test"]
        del entered.name


def test_an_option_of_a_plain_class_without_a_dataclass_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("undecorated_source.py").write_text(MINE)
    with pytest.raises(ConfigError) as raised:
        bind_part(data_sources, {"name": "undecorated_source:Load", "rows": 9}, "data")
    assert str(raised.value) == (
        "data.rows: undecorated_source:Load has no such parameter; allowed: (none); Load is no dataclass: write "
        "@dataclass(frozen=True) above class Load (from dataclasses import dataclass), or, of a constant, "
        "rows: ClassVar[...]"
    )
    assert undecorated(Given) == undecorated(len) == ""


def test_parts_of_every_kind_that_are_dataclasses_are_taken() -> None:
    for registry in (algorithms, samplers, trackers, transforms):
        for name, entry in registry.items():
            check_annotated(entry, name)
