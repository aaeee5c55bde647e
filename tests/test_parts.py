"""The module that packages with parts of their own build on is whole, and is kept."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import pytest

import fedray
from fedray import parts
from fedray.config.registry import Registry


def every_registry() -> dict[int, Registry]:
    """The registries that there are anywhere in fedray, but those that tests made."""
    found: dict[int, Registry] = {}
    for module in pkgutil.walk_packages(fedray.__path__, "fedray."):
        if module.name.endswith("__main__") or ".cluster." in f"{module.name}.":
            continue  # the first would run, the others hold no parts
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Registry):
                found[id(value)] = value
    return found


def test_every_registry_is_there_with_the_class_of_its_parts() -> None:
    """A new kind of part that nobody outside could register would be half a part."""
    public = {id(getattr(parts, name)) for name in parts.__all__ if isinstance(getattr(parts, name), Registry)}
    assert set(every_registry()) - public == set()
    classes = {getattr(parts, name) for name in parts.__all__ if inspect.isclass(getattr(parts, name))}
    for name in parts.__all__:
        registry = getattr(parts, name)
        if isinstance(registry, Registry) and registry.base is not None:
            assert registry.base in classes, name


def test_what_is_listed_is_all_there_is_and_in_order() -> None:
    assert list(parts.__all__) == sorted(parts.__all__)
    words = {"annotations", "Any", "TYPE_CHECKING"}
    imported = {name for name in vars(parts) if not name.startswith("_")} - words
    assert imported == set(parts.__all__)


@pytest.mark.parametrize("name", ["AlgorithmConfig", "ServerRule"])
def test_a_name_of_before_is_told_with_what_stands_in_its_place(name: str) -> None:
    with pytest.raises(
        AttributeError, match=rf"^fedray\.parts has no {name} any more; now .*: see docs/write-your-own"
    ):
        getattr(parts, name)
