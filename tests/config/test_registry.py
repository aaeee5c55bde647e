"""Binding configs: one error that names the full key, what is allowed and the nearest known name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from fedray.config.registry import Registry, bind_part, dump
from fedray.core.errors import ConfigError

pets = Registry("pet", package="fedray.config.registry")


@dataclass(frozen=True)
class Collar:
    """What a pet wears."""

    length: float = 0.3
    colours: list[str] = field(default_factory=list)


@pets.register("dog")
@dataclass(frozen=True)
class Dog:
    """A pet with all kinds of fields."""

    age: int
    weight: float = 10.0
    tagged: bool = False
    size: Literal["small", "large"] = "small"
    nickname: str | None = None
    collar: Collar = field(default_factory=Collar)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.age < 0:
            raise ValueError(f"age={self.age}: it must be at least 0")


@pets.register("cat")
@dataclass(frozen=True)
class Cat:
    """A pet with nothing to say."""


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"name": "dig"},
            r"^pet\.name: unknown pet 'dig' \(did you mean 'dog'\?\); known: cat, dog; for your own: my_module:name$",
        ),
        ({"name": "xyzzy"}, r"^pet\.name: unknown pet 'xyzzy'; known: cat, dog; for your own: my_module:name$"),
        ({}, r"^pet\.name: a pet is needed; known: cat, dog$"),
        (None, r"^pet\.name: a pet is needed"),
        ([1], r"^pet\.name: a pet is needed"),
        ({"name": "dog"}, r"^pet\.age: a value is needed by dog; where pet\.name is changed, nothing"),
        ({"name": "dog", "agee": 3}, r"^pet\.agee: unknown key \(did you mean 'age'\?\); allowed: age, weight, tagged"),
        ({"name": "cat", "age": 3}, r"^pet\.age: unknown key; allowed: \(none\)$"),
        ({"name": "dog", "age": "old"}, r"^pet\.age: .*'old'"),
        ({"name": "dog", "age": 3.5}, r"^pet\.age: "),
        ({"name": "dog", "age": 3, "weight": "heavy"}, r"^pet\.weight: .*'heavy'"),
        ({"name": "dog", "age": 3, "tagged": 7.5}, r"^pet\.tagged: "),
        ({"name": "dog", "age": 3, "size": "huge"}, r"^pet\.size: .*huge"),
        ({"name": "dog", "age": 3, "collar": {"length": "long"}}, r"^pet\.collar\.length: .*'long'"),
        ({"name": "dog", "age": 3, "collar": {"lenght": 1}}, r"^pet\.collar\.lenght: .*"),
        ({"name": "dog", "age": 3, "collar": 4}, r"^pet\.collar: expected a section with keys, got 4$"),
        ({"name": "dog", "age": -1}, r"^pet: age=-1: it must be at least 0$"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_its_full_key(node: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        bind_part(pets, node, "pet")
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_values_arrive_with_their_types() -> None:
    node = {"name": "dog", "age": 3, "weight": 4, "collar": {"colours": ["red"]}, "notes": {"a": [1, {"b": None}]}}
    dog = bind_part(pets, node, "pet")
    assert dog == Dog(3, 4.0, collar=Collar(colours=["red"]), notes={"a": [1, {"b": None}]})
    assert isinstance(dog.weight, float)
    assert isinstance(dog.collar, Collar)


def test_a_part_may_be_named_by_a_string_alone() -> None:
    assert bind_part(pets, "cat", "pet") == Cat()


def test_dump_is_the_inverse_of_bind() -> None:
    dog = Dog(3, nickname="Rex", size="large", notes={"x": 1})
    written = dump(dog)
    assert written["name"] == "dog"
    assert set(written) == {"name", "age", "weight", "tagged", "size", "nickname", "collar", "notes"}
    assert bind_part(pets, {**written, "collar": {"length": 0.3, "colours": []}}, "pet") == dog


def test_a_name_can_be_taken_once() -> None:
    registry = Registry("thing", package="fedray.config.registry")
    registry.register("one")(Cat)
    with pytest.raises(ValueError, match="thing 'one' is registered twice"):
        registry.register("one")(Dog)


def test_a_registry_is_a_sorted_mapping() -> None:
    assert list(pets) == ["cat", "dog"]
    assert len(pets) == 2
    assert pets["dog"] is Dog
    with pytest.raises(KeyError):
        pets["cow"]
