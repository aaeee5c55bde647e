"""The hidden state of code that is not ours.

What it remembers from one call to the next is seen, named, and put back.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LARGEST = 1 << 24
"""Bytes of the largest tensor or array that is watched; of a larger one a copy per worker, and a look at all of it per
client, would cost more than what it guards against."""

_SETTLED = {"torch", "numpy", "fedray", *sys.stdlib_module_names}
_BOOKKEEPING = set(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
_SCALARS = (int, float, complex, str, bytes, bool, type(None))


class HiddenState:
    """A picture of what is reachable from some objects and can change.

    Reached are attributes of modules and of objects of a user's classes, lists, dicts, sets, deques, tensors, arrays,
    generators, and what functions, methods and partials close over.  Not reached: globals of a Python module,
    attributes of a class, and tensors and arrays above :data:`LARGEST`.

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
        self._kept: list[_Kept] = []
        self._generators: list[_Generator] = []
        seen = {id(tensor): tensor for tensor in elsewhere}  # the tensors: an id is good while its object lives
        self._elsewhere = list(seen.values())
        known: dict[int, object] = dict(seen)
        waiting = deque(roots.items())
        while waiting:
            name, value = waiting.popleft()
            if id(value) in known or isinstance(value, _SCALARS):
                continue
            known[id(value)] = value
            self._look_at(name, value, waiting)

    def _look_at(self, name: str, value: Any, waiting: deque[tuple[str, Any]]) -> None:
        """Keep what can change in ``value`` itself, and queue what it refers to."""
        if isinstance(value, Tensor):
            if value.layout is torch.strided and value.device.type != "meta" and value.nbytes <= LARGEST:
                self._kept.append(_KeptTensor(name, value))
        elif isinstance(value, np.ndarray):
            if value.flags.writeable and not value.dtype.hasobject and value.nbytes <= LARGEST:
                self._kept.append(_KeptArray(name, value))
        elif isinstance(value, random.Random | np.random.Generator | np.random.RandomState | torch.Generator):
            self._generators.append(_Generator(name, value))
        elif isinstance(value, MutableMapping):
            self._kept.append(_KeptMapping(name, value))
            waiting.extend((f"{name}[{key!r}]", item) for key, item in value.items())
        elif isinstance(value, list | deque):
            self._kept.append(_KeptSequence(name, value))
            waiting.extend((f"{name}[{number}]", item) for number, item in enumerate(value))
        elif isinstance(value, set):
            self._kept.append(_KeptSet(name, value))
        elif isinstance(value, tuple):
            waiting.extend((f"{name}[{number}]", item) for number, item in enumerate(value))
        elif isinstance(value, functools.partial):
            waiting.extend([(name, value.func), (name, value.args), (name, value.keywords)])
        elif isinstance(value, types.MethodType):
            waiting.extend([(name, value.__self__), (name, value.__func__)])
        elif isinstance(value, types.FunctionType):
            if not _settled(value):
                for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                    self._kept.append(_KeptCell(f"{name}.{variable}", cell))
                    waiting.append((f"{name}.{variable}", self._kept[-1].saved))
                waiting.extend([(name, value.__defaults__), (name, value.__kwdefaults__), (name, _Attributes(value))])
        elif isinstance(value, _Attributes):
            owner = value.owner
            module = isinstance(owner, nn.Module)
            self._kept.append(_KeptMapping(name, vars(owner), dotted=True))
            for key, item in vars(owner).items():
                if module and key in ("_parameters", "_buffers", "_modules"):
                    self._kept.append(_KeptMapping(name, item, dotted=True))
                    waiting.extend((f"{name}.{inner}", found) for inner, found in item.items())
                elif not (module and key in _BOOKKEEPING):
                    waiting.append((f"{name}.{key}", item))
        elif isinstance(value, type | types.ModuleType):
            return
        elif isinstance(value, nn.Module | types.SimpleNamespace) or not _settled(type(value)):
            self._look_into(name, value, waiting)

    def _look_into(self, name: str, value: Any, waiting: deque[tuple[str, Any]]) -> None:
        if hasattr(value, "__dict__"):
            waiting.append((name, _Attributes(value)))
        for slot in _slots(type(value)) if not isinstance(value, nn.Module) else ():
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                self._kept.append(_KeptSlot(f"{name}.{slot}", value, slot))
                waiting.append((f"{name}.{slot}", self._kept[-1].saved))

    @contextmanager
    def put_back(self, number: int | None = None) -> Iterator[None]:
        """Leave all of it as it was when the picture was taken, whatever is done inside; also after an error.

        Args:
            number: seed of the generators that are part of it, while inside; ``None``: they go on from the picture.
        """
        if number is not None:
            for place, generator in enumerate(self._generators):
                generator.seed(number + place)
        try:
            yield
        finally:
            with torch.no_grad():
                for kept in self._kept:
                    if found := kept.differences():
                        self.changed.update(found)
                        kept.restore()
            for generator in self._generators:
                if number is None and generator.moved():
                    self.drawn.add(generator.name)
                generator.restore()


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


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and isinstance(one, _SCALARS) and one == other)


class _Kept:
    """Something that can change, with its value of before."""

    saved: Any

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def differences(self) -> list[str]:
        """Return the names of what is no longer as it was."""
        raise NotImplementedError

    def restore(self) -> None:
        """Make it as it was."""
        raise NotImplementedError


class _KeptMapping(_Kept):
    def __init__(self, name: str, value: MutableMapping[Any, Any], dotted: bool = False) -> None:
        super().__init__(name, value)
        self.saved, self._dotted = dict(value), dotted

    def differences(self) -> list[str]:
        now, before = self.value, self.saved
        if len(now) == len(before) and all(map(is_, now.values(), before.values())) and list(now) == list(before):
            return []
        other = [key for key in {**before, **now} if key not in now or key not in before]
        other += [key for key in before if key in now and not _same(now[key], before[key])]
        if self._dotted:
            return [f"{self.name}.{key}" for key in other]
        # An order is a memory too, as that of a cache by last use.
        return [self.name] * bool(other or list(now) != list(before))

    def restore(self) -> None:
        self.value.clear()
        self.value.update(self.saved)


class _KeptSequence(_Kept):
    def __init__(self, name: str, value: list[Any] | deque[Any]) -> None:
        super().__init__(name, value)
        self.saved = list(value)

    def differences(self) -> list[str]:
        same = len(self.value) == len(self.saved) and all(map(_same, self.value, self.saved))
        return [] if same else [self.name]

    def restore(self) -> None:
        self.value.clear()
        self.value.extend(self.saved)


class _KeptSet(_Kept):
    def __init__(self, name: str, value: set[Any]) -> None:
        super().__init__(name, value)
        self.saved = set(value)

    def differences(self) -> list[str]:
        return [] if self.value == self.saved else [self.name]

    def restore(self) -> None:
        self.value.clear()
        self.value.update(self.saved)


class _KeptTensor(_Kept):
    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__(name, value)
        self.saved = value.detach().clone()

    def differences(self) -> list[str]:
        now, before = self.value.detach(), self.saved
        if now.shape != before.shape or now.dtype != before.dtype or now.device != before.device:
            return [self.name]
        same = torch.equal(now, before)
        if not same and before.is_floating_point():
            same = torch.allclose(now, before, rtol=0.0, atol=0.0, equal_nan=True)
        return [] if same else [self.name]

    def restore(self) -> None:
        now, before = self.value, self.saved
        if (now.shape, now.dtype, now.device) == (before.shape, before.dtype, before.device):
            self.value.detach().copy_(self.saved)
        else:
            self.value.data = self.saved.clone()


class _KeptArray(_Kept):
    def __init__(self, name: str, value: np.ndarray[Any, Any]) -> None:
        super().__init__(name, value)
        self.saved = value.copy()

    def differences(self) -> list[str]:
        return [] if self.value.tobytes() == self.saved.tobytes() else [self.name]

    def restore(self) -> None:
        self.value[...] = self.saved


class _KeptCell(_Kept):
    def __init__(self, name: str, value: types.CellType) -> None:
        super().__init__(name, value)
        self.saved = self._now()

    def _now(self) -> Any:
        try:
            return self.value.cell_contents
        except ValueError:  # not yet assigned
            return _EMPTY

    def differences(self) -> list[str]:
        return [] if _same(self._now(), self.saved) else [self.name]

    def restore(self) -> None:
        if self.saved is _EMPTY:
            del self.value.cell_contents
        else:
            self.value.cell_contents = self.saved


class _KeptSlot(_Kept):
    def __init__(self, name: str, value: Any, slot: str) -> None:
        super().__init__(name, value)
        self._slot, self.saved = slot, getattr(value, slot)

    def differences(self) -> list[str]:
        return [] if _same(getattr(self.value, self._slot, _EMPTY), self.saved) else [self.name]

    def restore(self) -> None:
        setattr(self.value, self._slot, self.saved)


class _Generator:
    """A generator of the user's own."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self._value = name, value
        self._saved = self._state()

    def _state(self) -> Any:
        match self._value:
            case random.Random():
                return self._value.getstate()
            case torch.Generator():
                return self._value.get_state()
            case np.random.RandomState():
                return self._value.get_state(legacy=False)
        return self._value.bit_generator.state

    def _set(self, state: Any) -> None:
        match self._value:
            case random.Random():
                self._value.setstate(state)
            case torch.Generator() | np.random.RandomState():
                self._value.set_state(state)
            case _:
                self._value.bit_generator.state = state

    def seed(self, number: int) -> None:
        """Start it from a number of 64 bits."""
        match self._value:
            case random.Random():
                self._value.seed(number)
            case torch.Generator():
                self._value.manual_seed(number % (1 << 63))
            case np.random.RandomState():
                self._value.seed([number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF])
            case _:
                self._set(type(self._value.bit_generator)(number).state)

    def moved(self) -> bool:
        """Return True if the generator was drawn from."""
        now = self._state()
        return not torch.equal(now, self._saved) if isinstance(now, Tensor) else repr(now) != repr(self._saved)

    def restore(self) -> None:
        """Set it to where it was."""
        self._set(self._saved)


_EMPTY = object()
