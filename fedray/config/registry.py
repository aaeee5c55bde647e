"""Registries of parts: an algorithm, a model, a transform, found by name, by import path, or made in Python.

One YAML file describes one experiment.  A part is chosen by its registered ``name``, so that reading a config cannot
run code, with one exception: ``module:name`` imports the user's own from the working directory.  The options of a part
are the fields of a dataclass: the same class is used from Python and from YAML.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedray.config.annotated import check_annotated
from fedray.config.binding import bind, is_plain, nearest, options_of, unknown_key
from fedray.config.hooks import check_hooks
from fedray.config.imported import Imported, imported_in, made
from fedray.config.plugins import load_plugins
from fedray.config.strict import strict
from fedray.core.errors import ConfigError, an, quoted, short

T = TypeVar("T")

__all__ = [
    "ConfigError",
    "Imported",
    "Registry",
    "bind",
    "bind_part",
    "checked",
    "dump",
    "imported_in",
    "made",
    "name_of",
    "nearest",
]


class Registry(Mapping[str, type]):
    """Named parts of one kind.

    >>> shapes = Registry("shape", package="fedray.config")
    >>> @shapes.register("circle")
    ... @dataclasses.dataclass(frozen=True)
    ... class Circle:
    ...     '''A round one.'''
    ...     radius: float = 1.0
    >>> bind_part(shapes, {"name": "circle", "radius": 2}, "shape")
    Circle(radius=2.0)
    >>> bind_part(shapes, {"name": "cirle"}, "shape")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: shape.name: unknown shape 'cirle' (did you mean 'circle'?); known: circle; ...

    Args:
        kind: the word for an entry, in the singular, as used in error messages.
        package: module imported before the first look-up; importing it registers the built-in parts.
        base: the class of which every part is an instance; None: any object.
        imported: the class for a part that is named by its import path.
        such_as: a part as it is made in Python, for messages.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        base: type | None = None,
        imported: type[Imported] = Imported,
        such_as: str = "",
    ) -> None:
        self.kind = kind
        self.base = base
        self.imported = imported
        self.such_as = such_as
        self._package = package
        self._entries: dict[str, type] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Enter a dataclass under ``name`` and set its ``name`` attribute (a class decorator)."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            if isinstance(entry, type) and dataclasses.is_dataclass(entry):
                strict(entry)
            self._entries[name] = entry  # type: ignore[assignment]
            entry.name = name  # type: ignore[attr-defined]
            return entry

        return enter

    def _load(self) -> tuple[str, ...]:
        import_module(self._package)
        return load_plugins()

    def lookup(self, name: str, key: str) -> type:
        """Return the entry registered as ``name``; ConfigError naming ``key`` and the nearest known name."""
        broken = self._load()
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            hint = nearest(name, self._entries)
            module, dot, attribute = name.rpartition(".")
            own = short(f"{module}:{attribute}") if dot and module and attribute else "my_module:name"
            missing = "".join(f"; {words}" for words in broken)
            raise ConfigError(
                f"{key}: unknown {self.kind} {quoted(name)}{hint}; known: {known}; for your own: {own}{missing}"
            )
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


def bind_part(registry: Registry, node: Any, key: str, default: str = "") -> Any:
    """Make the part that is meant by a config section, or check one made in Python.

    Args:
        registry: of its kind.
        node: ``{name: ..., **options}``, just the name, or the part.  A name ``module:name`` gives an
            :class:`~fedray.config.imported.Imported`, to be made by :func:`made`.
        key: its place in the config, for messages.
        default: the name of the part that options without a name are for.

    Raises:
        ConfigError: unknown name or option, wrong type, code that cannot be imported, an object of another kind.
    """
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    if isinstance(node, str):
        node = {"name": node}
    if not is_plain(node) and not isinstance(node, Mapping):
        return checked(node, key, registry)
    if isinstance(node, Mapping) and "name" not in node and default:
        node = {"name": default, **node}
    if not isinstance(node, Mapping) or "name" not in node:
        raise ConfigError(f"{key}.name: {an(registry.kind)} is needed; known: {', '.join(registry)}")
    name, options = str(node["name"]), {k: v for k, v in node.items() if k != "name"}
    if ":" in name:
        part = registry.imported(name, options, kind=registry.kind, base=registry.base, key=key)
        part.check()
        return part
    entry = registry.lookup(name, f"{key}.name")
    if isinstance(entry, type):
        check_hooks(entry, key)
        check_annotated(entry, key)
        needed = f" by {name}; where {key}.name is changed, nothing that the section said before is kept"
        return bind(entry, options, key, needed=needed)
    if options:
        raise unknown_key(f"{key}.{short(next(iter(options)))}", "unknown key", "", f"; {name} takes no options")
    return entry


def checked(part: T, key: str, registry: Registry) -> T:
    """Return a part made in Python, its options checked as if they stood in a file."""
    if isinstance(part, type) or (registry.base is not None and not isinstance(part, registry.base)):
        such_as = f", such as {registry.such_as}," if registry.such_as else ""
        got = f"the class {part.__name__}" if isinstance(part, type) else f"an object of type {type(part).__name__}"
        raise ConfigError(
            f"{key}: expected {an(registry.kind)}{such_as} or the name of one ({', '.join(registry)}), got {got}"
        )
    check_hooks(type(part), key)
    check_annotated(type(part), key)
    if not dataclasses.is_dataclass(part):
        return part
    try:
        OmegaConf.structured(type(part))
    except OmegaConfBaseException:  # options that no file can hold
        return part
    return bind(type(part), _values(part), key)


def _values(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in options_of(type(part))}


def name_of(part: Any) -> str:
    """Return the name that a part is registered by, or that of its class.

    >>> import fedray
    >>> name_of(fedray.TrimmedMean(0.2)), name_of(object())
    ('trimmed_mean', 'object')
    """
    return str(getattr(part, "name", type(part).__name__))


def dump(part: Any) -> dict[str, Any]:
    """Return the inverse of :func:`bind_part`: ``{name: ..., **options}`` with every default written out."""
    if isinstance(part, Imported):
        return part.section
    values = _values(part) if dataclasses.is_dataclass(part) else {}
    name = getattr(part, "name", None)
    return {"name": name, **values} if name is not None else values
