"""Strict binding of plain values to dataclasses, with errors that a person can act on."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fedray.config.words import in_a_list, in_plain_words
from fedray.core.errors import ConfigError, quoted, short, shortened

T = TypeVar("T")

_LEAST, _LARGEST = -(2**63), 2**63 - 1
_MOST, _MOST_BITS = 1e30, 4096
_PLAIN = {int: "a whole number", float: "a number", bool: "true or false"}
_ANYTHING = ("Any", "list[Any]", "typing.Any", "list[typing.Any]")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known word, or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_words(where: str, words: object) -> None:
    """Refuse a boolean as a name, alone, in a list or as a key: YAML makes some words one.

    >>> check_words("data.classes", [False, True])
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: data.classes: YAML reads bare yes, no, on and off as booleans; write ["no", "yes"]

    Args:
        where: their key.
        words: the name, or several, as read.

    Raises:
        ConfigError: one is.
    """
    several = isinstance(words, list | tuple | Mapping)
    every = list(words) if several else [words]  # type: ignore[call-overload]
    if any(isinstance(word, bool) for word in every):
        meant = [("no", "yes")[word] if isinstance(word, bool) else str(word) for word in every]
        shown = short(json.dumps(meant if several else meant[0], ensure_ascii=False))
        raise ConfigError(f"{where}: YAML reads bare yes, no, on and off as booleans; write {shown}")


def _check_said(hint: Any, value: Any, where: str) -> None:
    """Check by the type of an option that its value, and each in a list or a mapping, is not taken for another one."""
    kinds = [one for one in get_args(hint) if one is not NoneType] if get_origin(hint) in (Union, UnionType) else [hint]
    kind, inner = (get_origin(kinds[0]) or kinds[0], get_args(kinds[0])) if len(kinds) == 1 else (Any, ())
    if kind is str or (kind is list and inner == (str,)):
        check_words(where, value)
    elif kind is bool:
        _check_truth(value, where)
    elif kind is list and inner and isinstance(value, list | tuple):
        for index, one in enumerate(value):
            if inner[0] in _PLAIN and isinstance(one, Mapping | list | tuple):  # which OmegaConf takes
                raise ConfigError(f"{where}[{index}]: expected {_PLAIN[inner[0]]}, got {quoted(one)}")
            _check_said(inner[0], one, f"{where}[{index}]")
    elif kind is dict and isinstance(value, Mapping):
        for name, one in value.items():
            _check_said(inner[0], name, where)
            _check_said(inner[1], one, f"{where}.{name}")


def _check_truth(value: Any, where: str) -> None:
    """Refuse whole numbers but 0 and 1 where true or false is meant: OmegaConf would take each of them for true."""
    try:
        number = int(value) if isinstance(value, str | int) else 0
    except ValueError:  # a word, of which OmegaConf knows what it means
        return
    if number not in (0, 1):
        raise ConfigError(f"{where}: expected true or false, got {quoted(value)}")


def unknown_key(full: str, words: str, meant: str, rest: str) -> ConfigError:
    """Return the error of a key that is not known in its section.

    Args:
        full: the full key.
        words: the words for the mistake.
        meant: the nearest key of the section, see :func:`nearest`.
        rest: the end of the message, with the keys that are allowed.
    """
    error = ConfigError(f"{full}: {words}{meant}{rest}")
    error.unknown = full, words, rest
    return error


def options_of(schema: type) -> list[str]:
    """Return the names of the options that a dataclass takes."""
    return [field.name for field in dataclasses.fields(schema) if field.init]


def defaults_of(part: Any) -> Iterator[str]:
    """Yield the names of a dataclass's options that have their default value.

    >>> from fedray.config.sections import CheckpointSection
    >>> list(defaults_of(CheckpointSection(keep=3)))
    ['every', 'seconds', 'best', 'history']
    """
    for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        made = field.default_factory
        usual = field.default if made is dataclasses.MISSING else made()
        value = getattr(part, field.name)
        if field.init and type(value) is type(usual) and is_plain(value) and value == usual:
            yield field.name


def is_plain(value: Any) -> bool:
    """Tell if a value is one that a YAML file can hold."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str) or OmegaConf.is_config(value)


def bind(
    schema: type[T],
    node: Mapping[str, Any] | None,
    key: str,
    elsewhere: Mapping[str, str] | None = None,
    needed: str = "",
) -> T:
    """Make an instance of the dataclass ``schema`` from a plain mapping.

    Unknown keys, values of a wrong type, missing values and a ``ValueError`` of the dataclass's own
    ``__post_init__`` all become one :class:`ConfigError` that starts with the full key, and quotes little of each.

    Args:
        schema: a dataclass; its field types and defaults are the schema.  A field of type ``Any`` or ``list[Any]`` also
            takes objects that no file can hold.
        node: the user's values; ``None`` means all defaults.
        key: the place of the values in the config, for messages (``""`` at the top).
        elsewhere: the words to write for keys that are known in another place.
        needed: the end of the message for a value that is missing.
    """
    try:
        return _bound(schema, {} if node is None else node, key, elsewhere, needed)
    except ConfigError as error:
        told = shortened(str(error), node) if is_plain(node) else str(error)
        if told == str(error):
            raise
        raise ConfigError(told) from error.__cause__


def _bound(schema: type[T], node: Any, key: str, elsewhere: Mapping[str, str] | None, needed: str) -> T:
    prefix = f"{key}." if key else ""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{key}: expected a section with keys, got {node!r}")
    allowed = options_of(schema)
    for name in node:
        if name not in allowed:
            rest = f"; allowed: {', '.join(allowed) or '(none)'}"
            if elsewhere and name in elsewhere:
                raise ConfigError(f"{prefix}{name}: unknown key (write {elsewhere[name]}){rest}")
            raise unknown_key(f"{prefix}{name}", "unknown key", nearest(name, allowed), rest)
    hints = _hints(cast(type, schema))
    for name, value in node.items():
        if isinstance(value, str) and value == MISSING:  # where it is laid over a default, OmegaConf keeps that
            raise ConfigError(f"{prefix}{name}: a value is needed{needed}")
        _check_said(hints[name], value, f"{prefix}{name}")
    held, objects = _held(schema, node)
    values: dict[str, Any] = copy.deepcopy(_usual(cast(type, schema)))
    values |= _typed(schema, held, key, needed) | objects
    if missing := [name for name in allowed if name not in values]:
        raise ConfigError(f"{prefix}{missing[0]}: a value is needed{needed}")
    try:
        bound = schema(**values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{key}: {error}" if key else str(error)) from None
    assert isinstance(bound, schema)
    _check_numbers(bound, [str(name) for name in node], key)
    return bound


def check_types(schema: type, node: Mapping[str, Any], key: str) -> None:
    """Check the values of known options.

    Raises:
        ConfigError: a value of a wrong type.
    """
    held, _ = _held(schema, node)
    _assigned(schema, held, f"{key}." if key else "")


def _held(schema: type, node: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of known options that a file can hold, with a stand-in for each other, and the others."""
    types = {field.name: str(field.type) for field in dataclasses.fields(schema)}
    objects = {name: value for name, value in node.items() if types[name] in _ANYTHING and not is_plain(value)}
    held = {
        str(name): ([] if types[name].startswith("list") else None) if name in objects else value
        for name, value in node.items()
    }
    return held, objects


_KNOWN: dict[tuple[type, str], dict[str, Any]] = {}
"""Values by what was said of a dataclass: runs of one process, such as those of a sweep, say most of it again."""


def _typed(schema: type, held: Mapping[str, Any], key: str, needed: str) -> dict[str, Any]:
    """Return values as OmegaConf types them, with the defaults that each instance has its own of.

    Raises:
        ConfigError: a value of a wrong type, or one that is missing within.
    """
    said = schema, repr(held)
    if said not in _KNOWN:
        prefix = f"{key}." if key else ""
        typed = _assigned(schema, held, prefix)
        try:
            made: Any = OmegaConf.to_object(typed)
        except MissingMandatoryValue as error:
            raise ConfigError(f"{prefix}{error.full_key or error.key}: a value is needed{needed}") from None
        except (ValueError, TypeError) as error:  # of a section within
            raise ConfigError(f"{key}: {error}" if key else str(error)) from None
        values = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
        made_by = (field.default_factory for name, field in _options(schema).items() if name not in held)
        # A reference may have another value the next time, and so may what a function makes.
        if "${" in said[1] or not all(one is dataclasses.MISSING or isinstance(one, type) for one in made_by):
            return values
        if len(_KNOWN) == 4096:
            _KNOWN.clear()
        _KNOWN[said] = values
    return copy.deepcopy(_KNOWN[said])


def _check_numbers(bound: Any, names: Iterable[str], key: str) -> None:
    """Refuse infinity, NaN and numbers that no model or size can have, unless they are the default of an option."""
    usual = set(defaults_of(bound))
    for field in dataclasses.fields(bound):
        if field.name not in names or field.name in usual or "Any" in str(field.type):
            continue
        for where, number in _numbers(getattr(bound, field.name), field.name):
            allowed = ""
            if isinstance(number, float) and "float" in str(field.type) and not abs(number) <= _MOST:
                allowed = "it must be a finite number"
                allowed += f" of at most {_MOST:g}, as those of models have 32 bits" if math.isfinite(number) else ""
            elif isinstance(number, int) and not _LEAST <= number <= _LARGEST and field.name != "seed":
                allowed = f"it must be from {_LEAST} to {_LARGEST}, as whole numbers have 64 bits"
            if allowed:
                raise ConfigError(f"{key + ': ' if key else ''}{where}={number}: {allowed}")


def check_digits(node: Mapping[str, Any]) -> None:
    """Refuse whole numbers so long that Python does not write them down; in hexadecimal it reads them all the same.

    Raises:
        ConfigError: there is one, with its full key.
    """
    for where, number in _numbers(node, ""):
        if isinstance(number, int) and number.bit_length() > _MOST_BITS:
            raise ConfigError(f"{where[1:]}: a whole number of {number.bit_length():,} bits; the longest have 64")


def _numbers(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of an option with their places."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _numbers(one, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _numbers(one, f"{where}[{index}]")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{where}.{field.name}")
    else:
        yield where, value


def _assigned(schema: type, values: Mapping[str, Any], prefix: str) -> Any:
    """Return values as OmegaConf types them, and defaults that each instance has its own of."""
    own = (name for name, field in _options(schema).items() if field.default_factory is not dataclasses.MISSING)
    some = _only(schema, frozenset(values).union(own))
    typed = OmegaConf.structured(some)
    checked = {name: _checked(typed, name, value, prefix) for name, value in values.items()}
    try:
        # The defaults are nobody else's: `merge` would copy them all first, for a millisecond and more.
        return OmegaConf.unsafe_merge(typed, OmegaConf.create(checked))
    except (OmegaConfBaseException, TypeError):
        typed = OmegaConf.structured(some)
        for name, value in checked.items():
            typed = _assign(typed, name, value, prefix)
        return typed


def _options(schema: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a dataclass by name."""
    return {field.name: field for field in dataclasses.fields(schema) if field.init}


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


@cache
def _only(schema: type, names: frozenset[str]) -> type:
    """Return the dataclass with these options alone: OmegaConf takes its time for each."""
    hints = _hints(schema)
    fields: list[tuple[str, Any, Any]] = []
    for name, option in _options(schema).items():
        if name in names:
            usual: dict[str, Any] = {"default": option.default, "default_factory": option.default_factory}
            fields.append((name, hints[name], dataclasses.field(**usual, metadata=option.metadata)))
    return dataclasses.make_dataclass(schema.__name__, fields, kw_only=True)


@cache
def _usual(schema: type) -> dict[str, Any]:
    """Return the defaults of a dataclass as OmegaConf types them, without those that each instance has its own of."""
    found = {}
    for name, field in _options(schema).items():
        if field.default_factory is dataclasses.MISSING:
            typed = OmegaConf.structured(_only(schema, frozenset([name])))
            if not OmegaConf.is_missing(typed, name):
                found[name] = getattr(OmegaConf.to_object(typed), name)
    return found


def _checked(typed: Any, name: str, value: Any, prefix: str) -> Any:
    """Return a value as it is to be merged; a name stands for a section with it."""
    now = OmegaConf.is_missing(typed, name) or typed[name]
    if isinstance(now, DictConfig) and "name" in now and isinstance(value, str):
        value = {"name": value}
    if OmegaConf.is_dict(now) and not isinstance(value, Mapping):
        raise ConfigError(f"{prefix}{name}: expected a section with keys, got {value!r}")
    if OmegaConf.is_list(now) and not isinstance(value, list | tuple):
        raise ConfigError(f"{prefix}{name}: expected a list, got {value!r}{in_a_list(value)}")
    return value


def _assign(typed: Any, name: str, value: Any, prefix: str) -> Any:
    """Return ``typed`` with one more value; one at a time, as not every error of OmegaConf says where it belongs."""
    try:
        return OmegaConf.merge(typed, OmegaConf.create({name: value}))
    except (OmegaConfBaseException, TypeError) as error:
        where = getattr(error, "full_key", None) or name
        reason = str(getattr(error, "msg", None) or error).splitlines()[0]
        raise ConfigError(f"{prefix}{where}: {in_plain_words(reason, value)}") from None
