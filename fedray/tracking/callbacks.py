"""Functions of the user's that are called after each round, and may end the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedray.config.imported import Imported, ImportedFunction, first_on_path
from fedray.config.registry import Registry
from fedray.core.errors import ConfigError, an, listed
from fedray.core.record import RoundRecord
from fedray.rundir.names import METRICS
from fedray.tracking.guarded import Guard
from fedray.tracking.jsonl import records_before

Callback = Callable[[RoundRecord], Any]
"""A function of a finished round; True, returned, ends the run."""


@dataclass(frozen=True)
class UserCallback(ImportedFunction):
    """A function (record, **options), or a class that is called with the options and gives a function of a record."""

    arguments: ClassVar[int] = 1

    def check(self) -> None:
        """Import the code, compare its parameters with the options, and look if it can be called with a record."""
        super().check()
        with first_on_path(self.folder):
            found = self.attribute()
        if not isinstance(found, type):
            check_callback(found, self.key, self.name, self.options)
            return
        if not any("__call__" in vars(one) for one in found.__mro__):
            has = [name for name, value in vars(found).items() if inspect.isfunction(value) and name[0] != "_"]
            raise ConfigError(
                f"{self.key}.name: {self.name} has no __call__(self, record), which is what is called after each "
                f"round{f'; it has {listed(has)}' if has else ''}"
            )
        check_callback(partial(found.__call__, None), self.key, self.name, {})


callbacks = Registry(
    "callback",
    package="fedray.tracking.callbacks",
    imported=UserCallback,
    such_as="a function of a fedray.RoundRecord",
)


def check_callback(function: Any, key: str, name: str = "", options: dict[str, Any] | None = None) -> None:
    """Check a callback: it is called with a record, and takes nothing else.

    >>> check_callback(print, "callbacks[0]")
    >>> check_callback(lambda: True, "callbacks[0]")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: callbacks[0]: ...<lambda> is called with a record, and cannot be: too many ...

    Args:
        function: the callback.
        key: its place, for messages.
        name: its name there; default: its own.
        options: the keyword arguments that it is called with beside the record.

    Raises:
        ConfigError: it cannot.
    """
    if not callable(function) or isinstance(function, type):
        raise ConfigError(
            f"{key}: a function of a fedray.RoundRecord is needed, such as print, or the name of your own, "
            f"my_module:name; this is {_kind(function)}"
        )
    said = f"{key}: {name or name_of(function)} is called with a record, and"
    inner = function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)
    if inspect.iscoroutinefunction(inner) or inspect.isgeneratorfunction(inner):
        raise ConfigError(f"{said} is a coroutine or a generator, whose body nobody would run: make it a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C tell nothing
        return
    try:
        signature.bind(None, **(options or {}))
    except TypeError as error:
        raise ConfigError(f"{said} cannot be: {error}") from None


class Callbacks:
    """The callbacks of a run, each left out once it raised.

    One with a method ``resume`` is given the records of the rounds before where a run goes on, so that what it knows of
    them is what it would know had the run never ended.

    >>> callbacks = Callbacks([lambda record: record.train["loss"] < 0.1])
    >>> callbacks.tell(RoundRecord(1, train={"loss": 0.7})) is None
    True
    >>> callbacks.tell(RoundRecord(2, train={"loss": 0.05}))
    'callbacks[0]: fedray.tracking.callbacks.<lambda> ends the run'

    Args:
        parts: functions, or parts of a config that name them, in the order in which they are called.

    Raises:
        ConfigError: one that a config names cannot be made.
    """

    def __init__(self, parts: Sequence[Any] = ()) -> None:
        self.names = tuple(map(name_of, parts))
        functions = [part.function if isinstance(part, UserCallback) else part for part in parts]
        for position, function in enumerate(functions):
            check_callback(function, f"callbacks[{position}]")
        self._functions: list[tuple[Callback, Guard]] = [
            (function, Guard(f"callback {name}")) for function, name in zip(functions, self.names, strict=True)
        ]

    def resume(self, run_dir: Path, first: int) -> None:
        """Give the records before round ``first``, which is told next, to those that go on by them."""
        for function, guard in self._functions:
            if callable(take := getattr(function, "resume", None)):
                guard.call("as the run went on", partial(take, records_before(run_dir / METRICS, first)))

    def tell(self, record: RoundRecord) -> str | None:
        """Call each with a record; return, in words, which is the first that ends the run, if one does."""
        when = f"in round {record.round}"
        answers = [guard.call(when, partial(function, record)) for function, guard in self._functions]
        ending = (i for i, answer in enumerate(answers) if _says_stop(answer))
        return next((f"callbacks[{i}]: {self.names[i]} ends the run" for i in ending), None)


def _says_stop(answer: Any) -> bool:
    # Not by truth: what a function returns by the way, as `list.append` or `file.write` does, stops nothing.
    return isinstance(answer, bool | np.bool_) and bool(answer)


def name_of(function: Any) -> str:
    """Return the name of a callback: that which a config has for it, or its own with that of its module."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, Imported) or type(function) in callbacks.values():
        return str(function.name)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__ or 'builtins'}.{named.__qualname__}"


def _kind(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else an(type(given).__name__)
