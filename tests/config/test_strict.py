"""What Python gets wrong about a part or the options of training is told as in a file."""

from __future__ import annotations

import dataclasses
import inspect
import math
from dataclasses import dataclass
from typing import Any

import pytest

import fedray
from fedray import Cluster, ConfigError, TrainArgs
from fedray.config.registry import Registry, bind_part
from fedray.config.strict import strict
from fedray.experiment.estimate.catalogue import KINDS


def test_a_value_of_a_wrong_type_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^Dirichlet\.alpha: .*'x'"):
        fedray.Dirichlet(clients=3, alpha="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [TrainArgs, Cluster, fedray.Dirichlet])
def test_an_unknown_option_is_told_with_the_nearest_known_one(kind: Any) -> None:
    option = next(field.name for field in dataclasses.fields(kind) if field.init and len(field.name) > 4)
    with pytest.raises(ConfigError, match=rf"^{kind.__name__}: unknown option '{option}x' \(did you mean '{option}'\?"):
        kind(**{f"{option}x": 3})


def test_what_is_no_option_stays_pythons_own_error() -> None:
    @strict
    @dataclass(frozen=True)
    class Part:
        """One."""

        size: int
        half: float = 0.5

        def __post_init__(self) -> None:
            assert self.size + self.half > 0

    assert list(inspect.signature(Part).parameters) == ["size", "half"]
    assert dataclasses.replace(Part(2), half=0.25) == Part(2, 0.25)
    for values in ((), (1, 2.0, 3)):
        with pytest.raises(TypeError):
            Part(*values)
    with pytest.raises(ConfigError, match=r"^Part\.size: .*'many'"):
        Part("many")  # type: ignore[arg-type]


FLOATS = [
    (kind, name, field.name)
    for kind, registry in KINDS.items()
    for name, part in registry.items()
    if dataclasses.is_dataclass(part)
    for field in dataclasses.fields(part)
    if field.init and str(field.type).startswith("float")
]


@pytest.mark.parametrize(("kind", "name", "option"), FLOATS)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.one_in(4)
def test_no_part_takes_a_number_that_is_not_finite(kind: str, name: str, option: str, value: float) -> None:
    part = KINDS[kind][name]
    values: dict[str, Any] = {"list": ["a.csv"], "dict": {"a": {"path": "a.csv"}}, "str": "a", "Any": {"name": "iid"}}
    needed = {
        field.name: values.get(str(field.type).partition("[")[0], 1)
        for field in dataclasses.fields(part)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    with pytest.raises(ConfigError, match=rf"^part.*{option}"):
        bind_part(KINDS[kind], {"name": name, **needed, option: value}, "part")


def test_infinity_that_is_the_default_may_be_said() -> None:
    parts = Registry("limit", package="fedray.config")

    @parts.register("limit")
    @dataclass(frozen=True)
    class Limit:
        """One."""

        most: float = math.inf

    assert bind_part(parts, {"name": "limit", "most": math.inf}, "part") == Limit()
    with pytest.raises(ConfigError, match="most=nan: it must be a finite number"):
        bind_part(parts, {"name": "limit", "most": math.nan}, "part")
