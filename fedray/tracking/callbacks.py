"""Functions of the user's that are called after each round, and may end the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fedray.core.errors import ConfigError, an
from fedray.core.record import RoundRecord
from fedray.tracking.guarded import Guard

Callback = Callable[[RoundRecord], Any]
"""A function of a finished round; True, returned, stops the run."""


class Callbacks:
    """The callbacks of a run, each left out once it raised.

    >>> callbacks = Callbacks([lambda record: record.train["loss"] < 0.1])
    >>> callbacks.tell(RoundRecord(1, train={"loss": 0.7})) is None
    True
    >>> callbacks.tell(RoundRecord(2, train={"loss": 0.05}))
    'fedray.tracking.callbacks.<lambda>'

    Args:
        functions: in the order in which they are called.

    Raises:
        ConfigError: no list, or something in it that cannot be called.
    """

    def __init__(self, functions: Sequence[Callback] = ()) -> None:
        if not isinstance(functions, Sequence) or isinstance(functions, str):
            raise ConfigError(f"callbacks: a list of functions is needed, such as [print]; this is {_kind(functions)}")
        for position, function in enumerate(functions):
            if not callable(function) or isinstance(function, type):
                raise ConfigError(
                    f"callbacks[{position}]: a function of a fedray.RoundRecord is needed, such as print; "
                    f"this is {_kind(function)}"
                )
        self._functions = [(function, Guard(f"callback {_name(function)}")) for function in functions]

    @property
    def names(self) -> tuple[str, ...]:
        """The functions' names with their modules, in order."""
        return tuple(_name(function) for function, _ in self._functions)

    def tell(self, record: RoundRecord) -> str | None:
        """Call each with a record; return the name of the first that stops the run, if one does."""
        when = f"in round {record.round}"
        answers = [(guard.call(when, partial(function, record)), function) for function, guard in self._functions]
        return next((_name(function) for answer, function in answers if _says_stop(answer)), None)


def _says_stop(answer: Any) -> bool:
    # Not by truth: what a function returns by the way, as `list.append` or `file.write` does, stops nothing.
    return isinstance(answer, bool | np.bool_) and bool(answer)


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__ or 'builtins'}.{named.__qualname__}"


def _kind(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else an(type(given).__name__)
