"""The search for what cannot be sent to another process, named as its user knows it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ray import cloudpickle

from fedray.core.errors import ConfigError, one_line
from fedray.local.task import LocalTask

_DEEPEST = 12


def refusal(task: LocalTask, error: Exception) -> ConfigError:
    """Return the error of a run that cannot be pickled, which names what its user's functions hold on to.

    Args:
        task: the local training problem.
        error: the error that pickling raised.
    """
    named = {"model_fn": task.model_fn, "optimizer_fn": task.optimizer_fn, "loss_fn": task.loss_fn, "data": task.data}
    for name, value in named.items():
        path = _path(value)
        if not path:
            continue
        who, what, held = name, name, value
        for label, inner in path:
            if inspect.isfunction(held):
                code = held.__code__
                who = f"{name}, the function {held.__qualname__} ({code.co_filename}:{code.co_firstlineno})"
                what = label
            held = inner
        if who == name:
            what = path[-1][0] or name
        return ConfigError(
            f"{who}: it holds on to {what!r}, and an object of type {type(held).__name__} cannot be sent to another "
            "process; make it inside the function, or train with cluster.name=inline"
        )
    return ConfigError(f"the run cannot be sent to its workers: {one_line(error)[:300]}")


def _path(value: Any, depth: int = 0) -> list[tuple[str, Any]]:
    """Return the names that lead from an object to the innermost one that cannot be pickled; empty if it can be."""
    if depth > _DEEPEST or _pickles(value):
        return []
    for name, inner in _inside(value):
        if not _pickles(inner):
            return [(name, inner), *_path(inner, depth + 1)]
    return [("", value)] if depth == 0 else []


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, functools.partial):
        yield "func", value.func
        yield from ((f"argument {number}", inner) for number, inner in enumerate(value.args))
        yield from value.keywords.items()
    elif inspect.isfunction(value):
        captured = inspect.getclosurevars(value)
        yield from captured.nonlocals.items()
        yield from captured.globals.items()
        yield from ((f"default {number}", inner) for number, inner in enumerate(value.__defaults__ or ()))
    elif inspect.ismethod(value):
        yield "self", value.__self__
    elif isinstance(value, Mapping):
        yield from ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), inner) for number, inner in enumerate(value))
    elif dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
        yield from vars(value).items()


def _pickles(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # whatever the object's own pickling raises
        return False
    return True
