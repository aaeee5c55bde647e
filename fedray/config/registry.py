"""Typed configuration: registries of parts, strict binding, and errors a person can act on.

One YAML file describes one experiment.  Parts (an algorithm, a model, a transform...) are chosen by
their registered ``name``, never by an import path, so that reading a config cannot run code.  The
fields of a part are the fields of a dataclass: the same class is used from Python and from YAML.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module, metadata
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fedray.core.errors import ConfigError

T = TypeVar("T")

__all__ = ["ConfigError", "Registry", "bind", "bind_part", "checked", "dump", "nearest"]

PLUGIN_GROUP = "fedray.parts"


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest known word, or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Registry(Mapping[str, type]):
    """Named parts of one kind.

    >>> shapes = Registry("shape", package="fedray.config.registry")
    >>> @shapes.register("circle")
    ... @dataclasses.dataclass(frozen=True)
    ... class Circle:
    ...     '''A round one.'''
    ...     radius: float = 1.0
    >>> bind_part(shapes, {"name": "circle", "radius": 2}, "shape")
    Circle(radius=2.0)
    >>> bind_part(shapes, {"name": "cirle"}, "shape")
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: shape.name: unknown shape 'cirle' (did you mean 'circle'?); known: circle

    Args:
        kind: what an entry is, in the singular, as used in error messages.
        package: module imported before the first look-up; importing it registers the built-in parts.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, type] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: enter a dataclass under ``name`` and set its ``name`` attribute."""

        def enter(cls: type[T]) -> type[T]:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return enter

    def _load(self) -> None:
        import_module(self._package)
        for entry in metadata.entry_points(group=PLUGIN_GROUP):
            entry.load()

    def lookup(self, name: str, key: str) -> type:
        """The class registered as ``name``; ConfigError naming ``key`` and the nearest known name."""
        self._load()
        if name not in self._entries:
            known = ", ".join(sorted(self._entries))
            hint = nearest(name, self._entries)
            raise ConfigError(f"{key}: unknown {self.kind} {name!r}{hint}; known: {known}")
        return self._entries[name]

    def __getitem__(self, name: str) -> type:
        self._load()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)


def _fields(schema: type) -> list[str]:
    return [field.name for field in dataclasses.fields(schema) if field.init]


def bind(schema: type[T], node: Mapping[str, Any] | None, key: str) -> T:
    """An instance of the dataclass ``schema`` from a plain mapping.

    Unknown keys, values of a wrong type, missing values and a ``ValueError`` of the dataclass's own
    ``__post_init__`` all become one :class:`ConfigError` that starts with the full key.

    Args:
        schema: a dataclass; its field types and defaults are the schema.
        node: the user's values; ``None`` means all defaults.
        key: where the values stand in the config, for messages (``""`` at the top).
    """
    prefix = f"{key}." if key else ""
    if node is None:
        node = {}
    if not isinstance(node, Mapping):
        raise ConfigError(f"{key}: expected a section with keys, got {node!r}")
    allowed = _fields(schema)
    for name in node:
        if name not in allowed:
            options = ", ".join(allowed) or "(none)"
            raise ConfigError(f"{prefix}{name}: unknown key{nearest(name, allowed)}; allowed: {options}")
    typed = OmegaConf.structured(schema)
    for name, value in node.items():
        typed = _assign(typed, str(name), value, prefix)
    try:
        bound = OmegaConf.to_object(typed)
    except MissingMandatoryValue as error:
        missing = str(error.full_key or error.key)
        raise ConfigError(f"{prefix}{missing}: a value is needed") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key}: {error}" if key else str(error)) from None
    assert isinstance(bound, schema)
    return bound


def _assign(typed: Any, name: str, value: Any, prefix: str) -> Any:
    """``typed`` with one more value; one at a time, because not every error of OmegaConf says where it belongs."""
    now = OmegaConf.is_missing(typed, name) or typed[name]
    if isinstance(now, DictConfig) and "name" in now and isinstance(value, str):
        value = {"name": value}
    if OmegaConf.is_dict(now) and not isinstance(value, Mapping):
        raise ConfigError(f"{prefix}{name}: expected a section with keys, got {value!r}")
    if OmegaConf.is_list(now) and not isinstance(value, list | tuple):
        raise ConfigError(f"{prefix}{name}: expected a list, got {value!r}")
    try:
        return OmegaConf.merge(typed, OmegaConf.create({name: value}))
    except (OmegaConfBaseException, TypeError) as error:
        where = getattr(error, "full_key", None) or name
        reason = str(getattr(error, "msg", None) or error).splitlines()[0]
        # Of a field without a default OmegaConf speaks in its own words.
        for kind, words in (("ListConfig", "a list"), ("Dict[", "a section with keys")):
            if kind in reason and not isinstance(value, Mapping | list | tuple):
                reason = f"expected {words}, got {value!r}"
        raise ConfigError(f"{prefix}{where}: {reason}") from None


def bind_part(registry: Registry, node: Mapping[str, Any] | str | None, key: str) -> Any:
    """An instance of a registered part from ``{name: ..., **fields}`` (or just its name)."""
    if isinstance(node, str):
        node = {"name": node}
    if not isinstance(node, Mapping) or "name" not in node:
        known = ", ".join(registry)
        raise ConfigError(f"{key}.name: a {registry.kind} is needed; known: {known}")
    schema = registry.lookup(str(node["name"]), f"{key}.name")
    return bind(schema, {k: v for k, v in node.items() if k != "name"}, key)


def checked(part: T, key: str) -> T:
    """A part made in Python, bound as if it stood in a file: what is an error there is one here."""
    if not dataclasses.is_dataclass(type(part)):
        raise ConfigError(f"{key}: expected a dataclass with its options, such as fedray.FedAvg() is, got {part!r}")
    return bind(type(part), _values(part), key)


def _values(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in _fields(type(part))}


def dump(part: Any) -> dict[str, Any]:
    """The inverse of :func:`bind_part`: ``{name: ..., **fields}`` with every default written out."""
    values = _values(part)
    name = getattr(part, "name", None)
    return {"name": name, **values} if name is not None else values
