"""The options of several sections said flat, as the arguments of one call in Python."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

from fedray.config.binding import options_of
from fedray.config.sections import SECTIONS, TopSection
from fedray.config.strict import strict

T = TypeVar("T", bound=type)


def flat_name(flat: type, key: str, option: str) -> str:
    """Return what a class that is made of sections calls an option.

    That is the option's own name where the class inherits the section, and elsewhere ``section_option``, or the
    option's own name again if the class itself declares it.

    >>> from fedray import TrainArgs
    >>> [flat_name(TrainArgs, *key.split(".")) for key in ("local.epochs", "evaluate.every", "checkpoint.keep")]
    ['epochs', 'evaluate_every', 'keep']

    Args:
        flat: the class.
        key: of the section.
        option: its name in the section.
    """
    declared = inspect.get_annotations(flat)
    for name in (f"{key}_{option}", option):
        if name in declared:
            return name
    if issubclass(flat, SECTIONS[key]):
        return option
    raise TypeError(f"{flat.__name__} has no field for {key}.{option}: declare {key}_{option}")


def unflatten(args: Any, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what an instance of such a class says, by section and option."""
    kind = type(args)
    return {
        key: {option: getattr(args, flat_name(kind, key, option)) for option in options_of(SECTIONS[key])}
        for key in keys
    }


def with_options(cls: T) -> T:
    """Complete the documentation of a class with that of the options that it inherits from sections (a decorator)."""
    inherited = [base for base in reversed(cls.__mro__) if base is TopSection or base in SECTIONS.values()]
    listed = [inspect.cleandoc(base.__doc__ or "").partition("Args:\n")[2].rstrip() for base in inherited]
    before, args, own = inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")
    cls.__doc__ = "\n".join([f"{before}{args}{listed[0]}", *listed[1:], own])
    return strict(cls)
