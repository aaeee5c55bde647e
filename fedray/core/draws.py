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


def traces(devices: Sequence[torch.device] = ()) -> dict[str, bytes]:
    """Return the state of each generator, of the CPU and of GPUs, as bytes, by the name that people know it by."""
    plain, _, array = position()
    return {
        "torch": torch.default_generator.get_state().numpy().tobytes(),
        "numpy.random": pickle.dumps(array),
        "random": pickle.dumps(plain),
        **{f"torch on {d}": torch.cuda.default_generators[d.index].get_state().numpy().tobytes() for d in devices},
    }


def drawn_since(before: dict[str, bytes], devices: Sequence[torch.device] = ()) -> list[str]:
    """Return the names of the generators that were drawn from since :func:`traces` gave ``before``.

    >>> before = traces()
    >>> _ = random.random()
    >>> drawn_since(before)
    ['random']
    """
    now = traces(devices)
    return [name for name, trace in before.items() if now[name] != trace]


class RepeatedDraws:
    """Looks at what the forward pass of a step draws from the generators of the process, and its backward again.

    Activation checkpointing that keeps no state of the generators computes a forward pass again with other draws: a
    wrong gradient, and no error.  A backward that draws what its forward does not (noise in a hook) is left alone.

    A look takes as long as half a small step.  It is taken in the steps 0, 1, 2, 4, 8... of the fits 1, 2, 4, 8..., so
    that draws which begin later are found, and, of a model that was once seen to draw, in the first step of every fit.

    >>> repeated = RepeatedDraws()
    >>> look = repeated.look(step=0)
    >>> _ = torch.rand(2)
    >>> look.forward_ends()
    >>> _ = torch.rand(2), random.random()
    >>> look.backward_ends()
    Traceback (most recent call last):
    RuntimeError: torch: the generator is drawn from in the forward pass and again while gradients are computed, ...

    Args:
        devices: GPUs whose generators are looked at, too.
    """

    def __init__(self, devices: Sequence[torch.device] = ()) -> None:
        self.devices = devices
        self.seen = False
        self._fits = 0

    def fit_begins(self) -> None:
        """Count another fit."""
        self._fits += 1

    def look(self, step: int) -> Look:
        """Return the look at a step of the fit, whose forward pass begins now."""
        wanted = _rare(step) and _rare(self._fits)
        return Look(self) if wanted or (self.seen and step == 0) else NO_LOOK


class Look:
    """A look at one forward pass and its backward.

    Args:
        of: the looks to which it belongs; None: nobody looks.
    """

    def __init__(self, of: RepeatedDraws | None = None) -> None:
        self._of, self._drawn = of, list[str]()
        self._before = {} if of is None else traces(of.devices)

    def forward_ends(self) -> None:
        """See what the forward pass drew."""
        if self._of is not None:
            self._drawn = drawn_since(self._before, self._of.devices)
            if self._drawn:
                self._of.seen, self._before = True, traces(self._of.devices)

    def backward_ends(self) -> None:
        """Raise RuntimeError if a generator was drawn from in both passes."""
        if self._of is None or not self._drawn:
            return
        if again := set(drawn_since(self._before, self._of.devices)) & set(self._drawn):
            raise RuntimeError(
                f"{' and '.join(sorted(again))}: the generator is drawn from in the forward pass and again while "
                f"gradients are computed, and {SAME_MASKS}"
            )


NO_LOOK = Look()
"""The look of nobody."""


def _rare(number: int) -> bool:
    """Return whether a number is 0 or a power of two."""
    return not number & (number - 1)
