"""The process's own generators, torch's, numpy's and ``random``'s: code that is not ours draws from them."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand

from fedray.core.errors import RunFailed
from fedray.core.rng import Purpose, digest, integer

Position = tuple[Any, ...]
"""The states of ``random`` and of numpy's generator."""

SAME_MASKS = (
    "no mask of the forward pass is to be drawn again: activation checkpointing needs preserve_rng_state=True, its "
    "default"
)
"""The end of an error about a backward pass that computes a forward again with other draws."""

_lock = threading.RLock()


def position() -> Position:
    """Return the states of ``random`` and of numpy's generator, which torch does not know of."""
    return random.getstate(), mtrand.get_bit_generator(), np.random.get_state(legacy=False)


def go_to(position: Position) -> None:
    """Set ``random`` and numpy's generator to the states that :func:`position` has returned."""
    plain, generator, state = position
    random.setstate(plain)
    mtrand.set_bit_generator(generator)
    np.random.set_state(state)


@contextmanager
def alone() -> Iterator[None]:
    """Keep the process's generators, and functions that are swapped while a model trains, to this thread.

    Raises:
        RunFailed: another thread has them.
    """
    if not _lock.acquire(blocking=False):
        raise RunFailed(
            "another thread of this process trains, and torch's generators and functions are the whole process's: "
            "start one run after the other, or each in a process of its own"
        )
    try:
        yield
    finally:
        _lock.release()


@contextmanager
def put_back(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Leave the generators as they are now, whatever is drawn inside.

    Args:
        devices: GPUs whose generators are put back too.

    Raises:
        RunFailed: another thread draws.

    >>> random.seed(1)
    >>> with put_back():
    ...     _ = random.random(), np.random.rand(), torch.rand(1)
    >>> random.random() == random.Random(1).random()
    True
    """
    with alone(), torch.random.fork_rng(devices=devices):
        before = position()
        try:
            yield
        finally:
            go_to(before)


@contextmanager
def named(
    seed: int, purpose: Purpose, round: int = 0, client: int = 0, devices: Sequence[torch.device] = ()
) -> Iterator[None]:
    """Name what is drawn inside by (seed, purpose, round, client), and put the generators back in the end.

    A generator that the user's code makes itself (``np.random.default_rng()``) is not reached.

    Args:
        seed: the run's seed.
        purpose: the purpose of the draws, as for :func:`fedray.core.rng.digest`.
        round: round number.
        client: client key.
        devices: GPUs whose generators are named too.

    Raises:
        RunFailed: another thread draws.

    >>> def draws():
    ...     with named(7, "local", round=1, client=3):
    ...         return random.random(), np.random.rand(), float(torch.rand(1))
    >>> draws() == draws()
    True
    """
    with put_back(devices):
        name_draws(seed, purpose, round, client, devices)
        yield


def name_draws(
    seed: int, purpose: Purpose, round: int = 0, client: int = 0, devices: Sequence[torch.device] = ()
) -> None:
    """Name what is drawn from here on, inside :func:`put_back`; arguments as for :func:`named`."""
    name, number = digest(seed, purpose, round, client), integer(seed, purpose, round, client)
    random.seed(name)
    if not isinstance(mtrand.get_bit_generator(), np.random.MT19937):
        mtrand.set_bit_generator(np.random.MT19937())  # the only kind that can be seeded in place
    np.random.seed(np.frombuffer(name, np.uint32))
    # torch.manual_seed would seed the generators of every kind of accelerator, which are not put back.
    torch.default_generator.manual_seed(number)
    for device in devices:
        torch.cuda.default_generators[device.index].manual_seed(number)


def traces() -> dict[str, bytes]:
    """Return the state of each generator on the CPU, as bytes, by the name that people know it by."""
    plain, _, array = position()
    return {
        "torch": torch.default_generator.get_state().numpy().tobytes(),
        "numpy.random": pickle.dumps(array),
        "random": pickle.dumps(plain),
    }


def drawn_since(before: dict[str, bytes]) -> list[str]:
    """Return the names of the generators that were drawn from since :func:`traces` gave ``before``.

    >>> before = traces()
    >>> _ = random.random()
    >>> drawn_since(before)
    ['random']
    """
    now = traces()
    return [name for name, trace in before.items() if now[name] != trace]


class RepeatedDraws:
    """A look at what the forward pass of a step draws from the generators of the process, and its backward again.

    Activation checkpointing that keeps no state of the generators computes a forward pass again with other draws: a
    wrong gradient, and no error.  A backward that draws what its forward does not (noise in a hook) is left alone.

    A look takes as long as half a small step: it is taken in the first step of the first fit, and, of a model that was
    once seen to draw, of every fit.  Generators on GPUs are not looked at.

    >>> look = RepeatedDraws()
    >>> look.forward_begins(first=True)
    >>> _ = torch.rand(2)
    >>> look.forward_ends()
    >>> _ = torch.rand(2), random.random()
    >>> look.backward_ends()
    Traceback (most recent call last):
    RuntimeError: torch: the generator is drawn from in the forward pass and again while gradients are computed, ...
    """

    def __init__(self) -> None:
        self._draws: bool | None = None  # not known
        self._drawn: list[str] = []
        self._before: dict[str, bytes] | None = None

    def forward_begins(self, first: bool) -> None:
        """Look, if this is the first step of a fit, and the model is not known to draw nothing."""
        self._before = traces() if first and self._draws is not False else None

    def forward_ends(self) -> None:
        """See what was drawn, if somebody looks."""
        if self._before is not None:
            self._drawn = drawn_since(self._before)
            self._draws = bool(self._draws or self._drawn)
            self._before = traces() if self._drawn else None

    def backward_ends(self) -> None:
        """Raise RuntimeError if a generator was drawn from in both passes."""
        if self._before is not None and (again := set(drawn_since(self._before)) & set(self._drawn)):
            raise RuntimeError(
                f"{' and '.join(sorted(again))}: the generator is drawn from in the forward pass and again while "
                f"gradients are computed, and {SAME_MASKS}"
            )
