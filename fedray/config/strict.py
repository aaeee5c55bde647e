"""Dataclasses whose mistakes in Python are told as those in a file are."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from omegaconf.errors import OmegaConfBaseException

from fedray.config.binding import check_types, nearest, options_of
from fedray.core.errors import ConfigError

T = TypeVar("T", bound=type)


def strict(cls: T) -> T:
    """Let a dataclass refuse an option that it does not know, and a value of a wrong type, by a :class:`ConfigError`.

    >>> import fedray
    >>> fedray.TrainArgs(batchsize=3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: TrainArgs: unknown option 'batchsize' (did you mean 'batch_size'?)...
    """
    init = cls.__init__  # type: ignore[misc]
    taken = inspect.signature(init)

    @wraps(init)
    def __init__(self: Any, *values: Any, **options: Any) -> None:
        known = options_of(type(self))
        for name in options:
            if name not in taken.parameters:
                word = type(self).__name__
                meant = nearest(name, known)
                raise ConfigError(f"{word}: unknown option {name!r}{meant}; allowed: {', '.join(known) or '(none)'}")
        given = taken.bind(self, *values, **options)  # too few or too many values are Python's own error
        try:
            init(self, *values, **options)
        except TypeError as error:
            word = type(self).__name__
            said = {name: value for name, value in given.arguments.items() if name in known}
            with suppress(OmegaConfBaseException):  # of options that no file can hold
                check_types(type(self), said, word)
            raise ConfigError(f"{word}: {error}") from error

    cls.__init__ = __init__  # type: ignore[misc]
    return cls
