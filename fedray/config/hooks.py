"""Names in a part of the user's own that look like a hook's, and that nobody would ever call."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

from fedray.core.errors import ConfigError

_NEAR = 0.7
"""The likeness, as difflib has it, of names that may be a slip of the pen."""

_OURS = __name__.partition(".")[0]


def check_hooks(kind: type, key: str) -> None:
    """Check that the public names of a class are hooks of its base, or are used where it is written.

    A hook that is misspelt is overridden by nobody, so that the base's would run without a word.

    >>> from fedray.parts import Transform
    >>> class Signs(Transform):
    ...     __module__ = "my_file"
    ...     def on_client(self, update):
    ...         update.parts["delta"].sign_()
    >>> check_hooks(Signs, "transforms[0]")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: transforms[0]: nothing uses Signs.on_client (did you mean 'on_clients'?); ...

    Args:
        kind: the class of a part.
        key: the place of the part in the config, for messages.

    Raises:
        ConfigError: a name that nothing uses is close to that of a hook.
    """
    if found := _misspelt(kind):
        name, hook = found
        raise ConfigError(
            f"{key}: nothing uses {kind.__name__}.{name} (did you mean {hook!r}?); "
            f"call it that, or _{name} if it is for others than fedray"
        )


@lru_cache(maxsize=256)
def _misspelt(kind: type) -> tuple[str, str] | None:
    """Return the first name that is close to a hook's, and that hook's; None if there is none."""
    ours = [one for one in kind.__mro__ if _is_ours(one)]
    own = [one for one in kind.__mro__ if not _is_ours(one) and issubclass(one, tuple(ours))]
    if not ours or not own:
        return None
    hooks = {name for one in ours for name in (*vars(one), *inspect.get_annotations(one)) if name[0] != "_"}
    said = {name for one in own for name in vars(one)}
    options = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    candidates = [name for one in own for name in vars(one) if name[0] != "_" and name not in hooks | options]
    for name in candidates:
        near = difflib.get_close_matches(name, sorted(hooks - said), n=1, cutoff=_NEAR)
        if near and name not in _used(own):
            return name, near[0]
    return None


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == _OURS


def _used(kinds: Iterable[type]) -> set[str]:
    """Return the names that the code of some classes, and of the modules that they are written in, looks up."""
    modules = [vars(module) for kind in kinds if (module := sys.modules.get(kind.__module__))]
    return {name for space in (*map(vars, kinds), *modules) for value in space.values() for name in _names(value)}


def _names(value: Any) -> Iterator[str]:
    """Yield the names and the texts in the code of a function, a property or the methods of a class."""
    if isinstance(value, type):
        for one in vars(value).values():
            if not isinstance(one, type):
                yield from _names(one)
        return
    for one in (value.fget, value.fset) if isinstance(value, property) else (value,):
        code = getattr(inspect.unwrap(getattr(one, "__func__", one)) if callable(one) else one, "__code__", None)
        if isinstance(code, CodeType):
            yield from _in_code(code)


def _in_code(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _in_code(constant)
        elif isinstance(constant, str):
            yield constant
