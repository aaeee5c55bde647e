"""The kinds of things that can change, each with its value of before: compared, and made as it was."""

from __future__ import annotations

import inspect
import pickle
import random
import types
import warnings
import zlib
from array import array
from collections import deque
from collections.abc import MutableMapping
from operator import is_, length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError, an

SCALARS = (int, float, complex, str, bytes, bool, type(None))
_EMPTY = object()
_LOOKED_AT_WHOLE, _SAMPLED = 1 << 16, 1009
"""Numbers of a frozen parameter from which on not all are compared each time, and the distance of those that are.

The distance is a prime, so that the sample is of no single column.
"""


def same(one: Any, other: Any) -> bool:
    """Return True for one object, or for two equal numbers, texts or the like of one type."""
    return one is other or (type(one) is type(other) and isinstance(one, SCALARS) and one == other)


class Kept:
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


class KeptMapping(Kept):
    """A mapping, or attributes, which are named with a dot."""

    def __init__(self, name: str, value: MutableMapping[Any, Any], dotted: bool = False) -> None:
        super().__init__(name, value)
        self.saved, self._dotted = dict(value), dotted

    def differences(self) -> list[str]:
        now, before = self.value, self.saved
        if not now and not before:
            return []
        if len(now) == len(before) and all(map(is_, now.values(), before.values())) and list(now) == list(before):
            return []
        other = [key for key in {**before, **now} if key not in now or key not in before]
        other += [key for key in before if key in now and not same(now[key], before[key])]
        if self._dotted:
            return [f"{self.name}.{key}" for key in other]
        # An order is a memory too, as that of a cache by last use.
        return [self.name] * bool(other or list(now) != list(before))

    def restore(self) -> None:
        self.value.clear()
        self.value.update(self.saved)


class KeptSequence(Kept):
    """A list or a deque."""

    def __init__(self, name: str, value: list[Any] | deque[Any]) -> None:
        super().__init__(name, value)
        self.saved = list(value)

    def differences(self) -> list[str]:
        return [] if len(self.value) == len(self.saved) and all(map(same, self.value, self.saved)) else [self.name]

    def restore(self) -> None:
        self.value.clear()
        self.value.extend(self.saved)


class KeptSet(Kept):
    """A set."""

    def __init__(self, name: str, value: set[Any]) -> None:
        super().__init__(name, value)
        self.saved = set(value)

    def differences(self) -> list[str]:
        return [] if self.value == self.saved else [self.name]

    def restore(self) -> None:
        self.value.clear()
        self.value.update(self.saved)


def _looks(value: Tensor) -> tuple[object, ...]:
    return value.shape, value.dtype, value.device, value.layout


def pieces(value: Tensor) -> list[Tensor]:
    """Return the dense tensors that a tensor of any layout is made of."""
    match value.layout:
        case torch.strided:
            return [value]
        case torch.sparse_coo:
            return [value._indices(), value._values()]
        case torch.sparse_csr | torch.sparse_bsr:
            return [value.crow_indices(), value.col_indices(), value.values()]
        case torch.sparse_csc | torch.sparse_bsc:
            return [value.ccol_indices(), value.row_indices(), value.values()]
    return []


def _equal(now: Tensor, before: Tensor) -> bool:
    if now.shape != before.shape:
        return False
    if torch.equal(now, before):
        return True
    return before.is_floating_point() and torch.allclose(now, before, rtol=0.0, atol=0.0, equal_nan=True)


class KeptTensor(Kept):
    """A tensor of any layout."""

    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__(name, value)
        self.saved = value.detach().clone()

    def differences(self) -> list[str]:
        now, before = self.value.detach(), self.saved
        if _looks(now) != _looks(before):
            return [self.name]
        return [] if all(map(_equal, pieces(now), pieces(before))) else [self.name]

    def restore(self) -> None:
        now, before = pieces(self.value.detach()), pieces(self.saved)
        if _looks(self.value) == _looks(self.saved) and [p.shape for p in now] == [p.shape for p in before]:
            for piece, saved in zip(now, before, strict=True):
                piece.copy_(saved)
        else:
            self.value.data = self.saved.clone()


class KeptFrozen(KeptTensor):
    """A parameter that nobody trains, as the base of adapters is: to compare all of it would cost as much as a step.

    All of it is compared where its version, its place, or one number in a thousand is another one: a write into it
    counts in its version, one through ``.data`` does not, and is seen if it reaches one of those.
    """

    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__(name, value)
        self._some = self.saved.view(-1)[::_SAMPLED]
        self._seen = self._state()

    def _state(self) -> tuple[object, ...]:
        now = self.value.detach()
        version = 0 if now.is_inference() else self.value._version
        return _looks(now), now.stride(), now.data_ptr(), version

    def differences(self) -> list[str]:
        state = self._state()
        if state == self._seen and torch.equal(self.value.detach().view(-1)[::_SAMPLED], self._some):
            return []
        found = super().differences()
        self._seen = state
        return found

    def restore(self) -> None:
        super().restore()
        self._seen = self._state()


def kept_tensor(name: str, value: Tensor) -> KeptTensor:
    """Keep a tensor: a large parameter that is not trained as :class:`KeptFrozen`."""
    frozen = isinstance(value, nn.Parameter) and not value.requires_grad and value.layout == torch.strided
    if frozen and value.is_contiguous() and value.numel() >= _LOOKED_AT_WHOLE:
        return KeptFrozen(name, value)
    return KeptTensor(name, value)


class KeptArray(Kept):
    """An array of numbers."""

    def __init__(self, name: str, value: np.ndarray[Any, Any]) -> None:
        super().__init__(name, value)
        self.saved = value.copy()

    def differences(self) -> list[str]:
        return [] if self.value.tobytes() == self.saved.tobytes() else [self.name]

    def restore(self) -> None:
        self.value[...] = self.saved


class KeptObjects(Kept):
    """An array of Python's objects."""

    def __init__(self, name: str, value: np.ndarray[Any, Any]) -> None:
        super().__init__(name, value)
        self.saved = value.copy()

    def differences(self) -> list[str]:
        return [] if all(map(same, self.value.flat, self.saved.flat)) else [self.name]

    def restore(self) -> None:
        self.value[...] = self.saved


class KeptBytes(Kept):
    """A bytearray or an ``array.array``."""

    def __init__(self, name: str, value: bytearray | array[Any]) -> None:
        super().__init__(name, value)
        self.saved = value[:]

    def differences(self) -> list[str]:
        return [] if self.value == self.saved else [self.name]

    def restore(self) -> None:
        self.value[:] = self.saved


class KeptCell(Kept):
    """A variable that a function closes over."""

    def __init__(self, name: str, value: types.CellType) -> None:
        super().__init__(name, value)
        self.saved = self._now()

    def _now(self) -> Any:
        try:
            return self.value.cell_contents
        except ValueError:  # not yet assigned
            return _EMPTY

    def differences(self) -> list[str]:
        return [] if same(self._now(), self.saved) else [self.name]

    def restore(self) -> None:
        if self.saved is _EMPTY:
            del self.value.cell_contents
        else:
            self.value.cell_contents = self.saved


class KeptSlot(Kept):
    """An attribute of an object without a dictionary."""

    def __init__(self, name: str, value: Any, slot: str) -> None:
        super().__init__(name, value)
        self._slot, self.saved = slot, getattr(value, slot)

    def differences(self) -> list[str]:
        return [] if same(getattr(self.value, self._slot, _EMPTY), self.saved) else [self.name]

    def restore(self) -> None:
        setattr(self.value, self._slot, self.saved)


class Advancing:
    """Something that gives one value after the other, and cannot be turned back."""

    def __init__(self, name: str, value: Any) -> None:
        self._name, self._value = name, value
        self._saved = self._position()

    def _position(self) -> object:
        if isinstance(self._value, types.GeneratorType):
            frame = self._value.gi_frame
            there = inspect.getgeneratorlocals(self._value).items()
            now = [(name, value if isinstance(value, SCALARS) else id(value)) for name, value in there]
            return None if frame is None else (frame.f_lasti, now)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python 3.14 will no longer pickle those of itertools
                return pickle.dumps(self._value)
        except Exception:  # what pickling raises is of any kind
            return repr(self._value), length_hint(self._value, -1)

    def check(self) -> None:
        """Raise ConfigError if it was advanced."""
        if self._position() != self._saved:
            raise ConfigError(
                f"{self._name}: {an(type(self._value).__name__)} goes on from one client to the next, and cannot be "
                "put back; keep the position as a number"
            )


class Large:
    """A tensor, array or bytes of which no copy is kept, and which so cannot be put back.

    A write into a tensor counts in its version (not one through ``.data`` or an array on its memory), which costs no
    look at it; an array and bytes are read once, for a checksum.
    """

    def __init__(self, name: str, value: Tensor | np.ndarray[Any, Any] | bytearray | array[Any]) -> None:
        self._name, self._value = name, value
        self._saved = self._state()

    def _state(self) -> object:
        match self._value:
            case Tensor():
                parts = [self._value.detach(), *pieces(self._value.detach())]
                versions = [0 if part.is_inference() else part._version for part in parts]
                return _looks(self._value), versions, [piece.data_ptr() for piece in parts[1:]]
            case np.ndarray():
                numbers = self._value.ravel(order="K")  # a view, where the memory has no gaps
                whole = numbers.tobytes() if numbers.dtype.hasobject else numbers.view(np.uint8).data
                return numbers.shape, numbers.dtype, zlib.crc32(whole)
        return len(self._value), zlib.crc32(self._value)

    def check(self) -> None:
        """Raise ConfigError if it was changed."""
        if self._state() != self._saved:
            raise ConfigError(
                f"{self._name}: {an(type(self._value).__name__)} above 16 MiB changes while a client trains, and would "
                "reach the next one, as no copy is kept to put it back; make it a buffer that is saved "
                "(register_buffer), a new tensor in each pass, or smaller"
            )


class Generator:
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
