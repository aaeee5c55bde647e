"""Annotations of a class of the user's own that look like options, and that nobody can set."""

from __future__ import annotations

import dataclasses
import dis
import inspect
import re
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any, ClassVar, Final, get_origin

from fedray.core.errors import ConfigError

_CONSTANT = re.compile(r"(\w+\.)?(ClassVar|Final)\b")

_OURS = __name__.partition(".")[0]


def check_annotated(kind: type, key: str) -> None:
    """Check that the annotated names of a part's class are options, which its ``@dataclass`` makes of them.

    Without it the class runs with the values that stand in it, or with those of its base, whatever the config says.

    >>> from fedray.parts import Algorithm
    >>> class Proximal(Algorithm):
    ...     __module__ = "my_file"
    ...     mu: float = 0.1
    >>> check_annotated(Proximal, "algorithm")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: algorithm: nobody can set Proximal.mu, as Proximal is no dataclass: ...

    Args:
        kind: the class of a part.
        key: the place of the part in the config, for messages.

    Raises:
        ConfigError: an annotated name is no option.
    """
    if (found := _unset(kind)) and _of_fedray_or_dataclass(kind):
        one, name = found
        raise ConfigError(
            f"{key}: nobody can set {one.__name__}.{name}, as {one.__name__} is no dataclass: {remedy(one, name)}"
        )


def undecorated(kind: Any) -> str:
    """Return what the error of an option without a parameter adds where the class lacks its ``@dataclass``.

    >>> class Draw:
    ...     __module__ = "my_file"
    ...     share: float = 0.5
    >>> undecorated(Draw)[:70]
    '; Draw is no dataclass: write @dataclass(frozen=True) above class Draw'
    >>> undecorated(print)
    ''
    """
    if not isinstance(kind, type) or not (found := _unset(kind)):
        return ""
    one, name = found
    return f"; {one.__name__} is no dataclass: {remedy(one, name)}"


def remedy(kind: type, name: str) -> str:
    """Return the words for what makes an option of an annotated name, and what says that it is none."""
    made = f"write @dataclass(frozen=True) above class {kind.__name__} (from dataclasses import dataclass)"
    return f"{made}, or, of a constant, {name}: ClassVar[...]"


def _of_fedray_or_dataclass(kind: type) -> bool:
    """Tell if the options of a class are the fields of a dataclass, by what it is derived from."""
    return dataclasses.is_dataclass(kind) or any(_is_ours(one) for one in kind.__mro__)


@lru_cache(maxsize=256)
def _unset(kind: type) -> tuple[type, str] | None:
    """Return the first public annotation that no argument of a class sets, and the class that has it."""
    plain = [one for one in kind.__mro__ if one is not object and not getattr(one, "_is_protocol", False)]
    makers = [one for one in plain if _is_dataclass(one) or "__new__" in vars(one) or _has_own_init(one)]
    if makers and not _is_dataclass(makers[0]):
        return None  # somebody wrote what its arguments are
    for one in plain[: plain.index(makers[0])] if makers else plain:
        if not _is_ours(one) and (name := next(_options(one), None)):
            return one, name
    return None


def _is_dataclass(kind: type) -> bool:
    return "__dataclass_fields__" in vars(kind)


def _has_own_init(kind: type) -> bool:
    """Tell if a class has an ``__init__`` that is not that of a class above it, which a registry may have wrapped."""
    if (own := vars(kind).get("__init__")) is None:
        return False
    above = next(vars(one)["__init__"] for one in kind.__mro__[1:] if "__init__" in vars(one))
    return inspect.unwrap(own) is not inspect.unwrap(above)


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == _OURS


def _options(kind: type) -> Iterator[str]:
    """Yield the annotated names of a class that are neither private nor constants, nor changed by its own code."""
    above = {name for one in kind.__mro__[1:] for name in (*vars(one), *inspect.get_annotations(one))}
    options = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name, annotation in inspect.get_annotations(kind).items():
        declared = name in above and name not in options
        if not (name.startswith("_") or declared or _is_constant(annotation) or name in _changed(kind)):
            yield name


def _is_constant(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return bool(_CONSTANT.match(annotation))
    return any(annotation is one or get_origin(annotation) is one for one in (ClassVar, Final))


def _changed(kind: type) -> set[str]:
    """Return the names of attributes that the methods of a class assign: its state, which nobody is to set.

    Python 3.13 has them as ``__static_attributes__``; for versions before, the code of the methods is read as it is
    compiled, because nothing plainer tells them.  The names that the code uses (``co_names``) are those of options as
    well, which it reads; the source is not at hand in a session, and a default says nothing about who changes it.
    """
    codes = [code for value in vars(kind).values() if isinstance(code := getattr(value, "__code__", None), CodeType)]
    return {step.argval for code in codes for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}
