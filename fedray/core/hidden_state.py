"""The hidden state of code that is not ours.

What it remembers from one call to the next is seen, named, and put back.
"""

from __future__ import annotations

import functools
import itertools
import random
import sys
import types
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedray.core.kept import (
    SCALARS,
    Advancing,
    Generator,
    Kept,
    KeptArray,
    KeptBytes,
    KeptCell,
    KeptMapping,
    KeptObjects,
    KeptSequence,
    KeptSet,
    KeptSlot,
    Large,
    kept_tensor,
    pieces,
)

LARGEST = 1 << 24
"""Bytes of the largest tensor or array that is put back; of a larger one a copy per worker, and a look at all of it per
client, would cost more than what it guards against: a change of it is an error."""

_SETTLED = {"torch", "numpy", "fedray", *sys.stdlib_module_names}
_IN_CHARGE = {"training", "_is_full_backward_hook"}
"""Attributes of a module that who trains it sets."""
_ITERABLES: tuple[Iterable[Any], ...] = ([], (), {}, {}.values(), {}.items(), set(), range(0), range(1 << 70), "", b"")
_ITERATORS = {
    *(type(iter(one)) for one in _ITERABLES),
    *(enumerate, filter, map, reversed, zip, type(iter(int, 0)), type(reversed([]))),
    *(kind for kind in vars(itertools).values() if isinstance(kind, type)),
}


class HiddenState:
    """A picture of what is reachable from some objects and can change.

    Reached are attributes of modules, of tensors and of objects of a user's classes, hooks of modules, lists, dicts,
    sets, deques, bytes, tensors, arrays, generators, and what functions, methods and partials close over.  Not reached:
    globals of a Python module and attributes of a class.  An iterator, and a tensor or array above :data:`LARGEST`, is
    seen to move, and cannot be put back: an error.

    Args:
        roots: the objects, by the name that messages have for them.
        elsewhere: tensors whose values are put in place by others, such as a module's parameters.

    Attributes:
        changed: names of what had to be put back so far.
        drawn: names of generators that were drawn from, where they were not seeded.

    >>> model = nn.Linear(2, 1)
    >>> model.seen = []
    >>> state = HiddenState({"model": model})
    >>> with state.put_back():
    ...     model.seen.append(3)
    >>> model.seen, sorted(state.changed)
    ([], ['model.seen'])
    """

    def __init__(self, roots: Mapping[str, object], elsewhere: Iterable[Tensor] = ()) -> None:
        self.changed: set[str] = set()
        self.drawn: set[str] = set()
        self._kept: list[Kept] = []
        self._generators: list[Generator] = []
        self._lasting: list[Advancing | Large] = []
        self._elsewhere = {id(tensor): tensor for tensor in elsewhere}  # an id is good while its object lives
        known: dict[int, object] = {}
        waiting = deque(roots.items())
        while waiting:
            name, value = waiting.popleft()
            if id(value) in known or isinstance(value, SCALARS):
                continue
            known[id(value)] = value
            self._look_at(name, value, waiting)
        # Most mappings of a module are hooks that nobody set: one call asks whether all are as empty as they were.
        empty = [kept for kept in self._kept if type(kept.value) in (dict, OrderedDict) and not kept.value]
        self._empty = [kept.value for kept in empty]
        self._filled = [kept for kept in self._kept if kept not in empty]

    def _look_at(self, name: str, value: Any, waiting: deque[tuple[str, Any]]) -> None:
        """Keep what can change in ``value`` itself, and queue what it refers to."""
        if isinstance(value, Tensor):
            size = 0 if value.device.type == "meta" else sum(piece.nbytes for piece in pieces(value))
            if size > 0 and id(value) not in self._elsewhere:
                self._keep(kept_tensor, name, value, size)
            waiting.append((name, _Attributes(value)))
        elif isinstance(value, np.ndarray):
            if value.dtype == object:
                self._kept.append(KeptObjects(name, value))
                waiting.extend((f"{name}[{number}]", item) for number, item in enumerate(value.flat))
            elif value.flags.writeable:
                self._keep(KeptArray, name, value, value.nbytes)
        elif isinstance(value, bytearray | array):
            self._keep(KeptBytes, name, value, len(memoryview(value).cast("B")))
        elif isinstance(value, random.Random | np.random.Generator | np.random.RandomState | torch.Generator):
            self._generators.append(Generator(name, value))
        elif isinstance(value, MutableMapping):
            self._kept.append(KeptMapping(name, value))
            waiting.extend((f"{name}[{key!r}]", item) for key, item in value.items())
        elif isinstance(value, list | deque):
            self._kept.append(KeptSequence(name, value))
            waiting.extend((f"{name}[{number}]", item) for number, item in enumerate(value))
        elif isinstance(value, set):
            self._kept.append(KeptSet(name, value))
        elif isinstance(value, tuple):
            waiting.extend((f"{name}[{number}]", item) for number, item in enumerate(value))
        elif isinstance(value, functools.partial):
            waiting.extend([(name, value.func), (name, value.args), (name, value.keywords)])
        elif isinstance(value, types.MethodType):
            waiting.extend([(name, value.__self__), (name, value.__func__)])
        elif isinstance(value, types.FunctionType):
            if not _settled(value):
                for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                    self._kept.append(KeptCell(f"{name}.{variable}", cell))
                    waiting.append((f"{name}.{variable}", self._kept[-1].saved))
                waiting.extend([(name, value.__defaults__), (name, value.__kwdefaults__), (name, _Attributes(value))])
        elif isinstance(value, _Attributes):
            owner = value.owner
            module = isinstance(owner, nn.Module)
            self._kept.append(KeptMapping(name, vars(owner), dotted=True))
            for key, item in vars(owner).items():
                if module and key in ("_parameters", "_buffers", "_modules"):
                    self._kept.append(KeptMapping(name, item, dotted=True))
                    waiting.extend((f"{name}.{inner}", found) for inner, found in item.items())
                elif not (module and key in _IN_CHARGE):
                    waiting.append((f"{name}.{key}", item))
        elif isinstance(value, type | types.ModuleType):
            return
        elif isinstance(value, types.GeneratorType) or type(value) in _ITERATORS:
            self._lasting.append(Advancing(name, value))
        elif isinstance(value, nn.Module | types.SimpleNamespace) or not _settled(type(value)):
            self._look_into(name, value, waiting)

    def _keep(self, kind: Callable[[str, Any], Kept], name: str, value: Any, size: int) -> None:
        """Keep the value of something of ``size`` bytes, or no more than whether it changes."""
        if size <= LARGEST:
            self._kept.append(kind(name, value))
        else:
            self._lasting.append(Large(name, value))

    def _look_into(self, name: str, value: Any, waiting: deque[tuple[str, Any]]) -> None:
        if hasattr(value, "__dict__"):
            waiting.append((name, _Attributes(value)))
        for slot in _slots(type(value)) if not isinstance(value, nn.Module) else ():
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                self._kept.append(KeptSlot(f"{name}.{slot}", value, slot))
                waiting.append((f"{name}.{slot}", self._kept[-1].saved))

    @contextmanager
    def put_back(self, number: int | None = None) -> Iterator[None]:
        """Leave all of it as it was when the picture was taken, whatever is done inside; also after an error.

        Args:
            number: seed of the generators that are part of it, while inside; ``None``: they go on from the picture.

        Raises:
            ConfigError: an iterator that is part of it was advanced, or something above :data:`LARGEST` changed.
        """
        if number is not None:
            for place, generator in enumerate(self._generators):
                generator.seed(number + place)
        try:
            yield
        finally:
            with torch.no_grad():
                for kept in self._kept if any(self._empty) else self._filled:
                    if found := kept.differences():
                        self.changed.update(found)
                        kept.restore()
            for generator in self._generators:
                if number is None and generator.moved():
                    self.drawn.add(generator.name)
                generator.restore()
            for lasting in self._lasting:
                lasting.check()


class _Attributes:
    """The attributes of an object, as something to look at."""

    def __init__(self, owner: object) -> None:
        self.owner = owner


def _settled(value: Any) -> bool:
    """Return True if a class or function comes with Python, numpy, torch or fedray, whose objects are left alone."""
    return str(getattr(value, "__module__", None)).partition(".")[0] in _SETTLED


def _slots(kind: type) -> Iterator[str]:
    """Yield the names under which the slots of a class and of its bases are attributes."""
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            yield f"_{base.__name__.lstrip('_')}{slot}" if private else slot
