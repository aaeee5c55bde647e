"""The batches of a fit: who takes how many steps, in which order the clients stand, and the same steps again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.config.amounts import MOST_STEPS
from fedray.config.local import LocalSection
from fedray.core.messages import Ints
from fedray.core.rng import integer
from fedray.data.augment_chain import Augment
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.rows import Rows
from fedray.local.batches import Batch, Batches, Trace
from fedray.local.private import ExamplePrivacy, FitKeys, FitNoise
from fedray.local.schedule import Schedule, batch_sizes, batches, poisson_rates

Work = tuple[int | None, int | None]
"""The epochs and the steps of a fit, as its program says them for all clients; None: as the config does."""


@dataclass(eq=False)
class Orders:
    """The batches of a fit.

    Args:
        args: the work of the fit.
        opened: the examples of the clients of a block.
        sizes: their numbers of examples, ``[C]``.
        keys: their keys, ``[C]``.
        seed: names the orders of the examples.
        work: the run's seed, which names how much a client does.
        round: round number.
        device: the device of the batches.
        where: the clients that train, ``[C]``; None: all of them.
        augment: the changes of the inputs of batches.
        steps: the steps of each client, ``[C]``; None: those of ``args``.
        private: the protection of single rows: each enters a batch by a coin; None: there is none, and a
            pass is cut into batches.
        secrets: the keys by which coins and noise are drawn; None: they are drawn by the seed.
    """

    args: LocalSection
    opened: Rows
    sizes: Ints
    keys: Ints
    seed: int
    work: int
    round: int
    device: torch.device
    where: NDArray[np.bool_] | None = None
    augment: Augment = field(default_factory=Augment)
    steps: Ints | None = None
    private: ExamplePrivacy | None = None
    secrets: FitKeys | None = None
    _others: list[Batches] = field(default_factory=list)

    def same(self, other: Orders) -> bool:
        """Return True for the same draws of the clients of one block, all of which train, and as the section says."""
        alike = (self.seed, self.work, self.args) == (other.seed, other.work, other.args)
        own = any(said is not None for said in (self.where, other.where, self.steps, other.steps))
        return alike and self.opened is other.opened and not own

    @cached_property
    def whole(self) -> bool:
        """True where each step of all clients takes all of their examples, whose order is then of no account."""
        if self.private is not None or self.augment.parts or self.where is not None or self.steps is not None:
            return False
        return bool((batch_sizes(self.args, self.sizes, self.keys) >= self.sizes).all())

    def follow(self, other: Orders) -> bool:
        """Take over the batches of another fit of the block, if the order of their examples is of no account."""
        alike = (self.work, self.args) == (other.work, other.args) and self.opened is other.opened
        if not (alike and self.whole and other.whole):
            return False
        self.drawn, self.places, self.schedule, self.own = other.drawn, other.places, other.schedule, other.own
        return True

    def _draw(self, seed: int) -> Schedule:
        names = self.args, self.sizes, self.keys, seed, self.round, self.work, self.steps
        drawn = Schedule.draw(*names, self._lengths) if self.private is None else Schedule.poisson(*names)
        return drawn if self.where is None else drawn.among(self.where)

    @cached_property
    def _lengths(self) -> Ints | None:
        """The lengths of the clients' examples, ``[C, max(sizes)]``; None where batches do not look at them."""
        if self.args.group_by_length is None:
            return None
        shape = len(self.sizes), int(self.sizes.max())
        return self.opened.lengths(np.broadcast_to(np.arange(shape[1]), shape))

    @cached_property
    def drawn(self) -> Schedule:
        """The schedule, its clients in the order of the block."""
        return self._draw(self.seed)

    @cached_property
    def places(self) -> Ints | None:
        """The places in the block of the clients, those with the most steps first, ``[C]``; None: as they stand."""
        return None if self.drawn.falls else np.argsort(-self.drawn.steps, kind="stable")

    def placed(self, schedule: Schedule) -> Schedule:
        """Return a schedule of the block, its clients in the order of ``places``."""
        return schedule if self.places is None else schedule.of(self.places)

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule, its clients in the order of ``places``."""
        return self.placed(self.drawn)

    @cached_property
    def own(self) -> Batches:
        """The batches of the schedule."""
        return self.batches(self.schedule, self.seed)

    def batches(self, schedule: Schedule, seed: int) -> Batches:
        """Return the batches of a schedule in the order of ``places``; ``seed`` names what is drawn for them."""
        rows = self.opened if self.places is None else self.opened.of(self.places)
        if not self.augment.parts:
            return Batches(rows, schedule, self.device)
        keys = torch.from_numpy(self.keys if self.places is None else self.keys[self.places]).to(self.device)

        def change(x: Inputs, step: int) -> Inputs:
            return self.augment.training(x, keys[: len(x)], seed, self.round, step)

        return Batches(rows, schedule, self.device, change)

    @cached_property
    def noise(self) -> FitNoise | None:
        """The noise on the gradients of the clients in the order of ``places``; None: they are as they are."""
        if self.private is None:
            return None
        places = np.arange(len(self.keys)) if self.places is None else self.places
        expected = poisson_rates(self.args, self.sizes, self.keys) * self.sizes
        return FitNoise(self.private, self.seed, self.round, self.keys[places], expected[places], self.secrets)

    def second(self, step: int, rows: int) -> Batch:
        """Return the batch of the first ``rows`` clients in a step, in another order of their examples."""
        if not self._others:
            seed = integer(self.seed, "local")
            self._others.append(self.batches(self.placed(self._draw(seed)), seed))
        return self._others[0].at(step, rows)

    def taken(self, models: Tensor) -> Tensor:
        """Return the models ``[C, k]`` in the order of ``places``: a copy, or themselves."""
        return models if self.places is None else models[torch.from_numpy(self.places).to(models.device)]

    def put_back(self, models: Tensor, trained: Tensor, trace: Trace | None = None) -> None:
        """Put what was ``taken`` into the models again, and bring the trace in the order of the block."""
        if self.places is not None:
            models[torch.from_numpy(self.places).to(models.device)] = trained
        if self.places is not None and trace is not None:
            back = np.argsort(self.places)
            trace.total, trace.count = trace.total[back], trace.count[back]
            trace.taken = None if trace.taken is None else trace.taken[back]
            trace.counted = None if trace.counted is None else trace.counted[back]


def chosen(where: Any, count: int) -> NDArray[np.bool_] | None:
    """Return the clients that a program chose for a fit, ``[C]``; None for all.

    >>> chosen(torch.tensor([True, False]), 2)
    array([ True, False])

    Raises:
        RuntimeError: it is not one bool for each client.
    """
    if where is None:
        return None
    found = np.asarray(where.cpu() if isinstance(where, Tensor) else where)
    if found.shape != (count,) or found.dtype != np.bool_:
        raise RuntimeError(
            f"fit(where=): one bool for each client is needed, such as ~c.known, {[count]}; "
            f"this is {list(found.shape)} of {found.dtype}"
        )
    return found


def each_ones(name: str, value: Any, count: int) -> Ints | None:
    """Return a number of epochs or steps of each client, as a program says it for a fit, ``[C]``; None: one for all.

    >>> each_ones("epochs", torch.tensor([2, 0]), 2), each_ones("epochs", 2, 2)
    (array([2, 0]), None)

    Args:
        name: the argument's.
        value: one number, or None, or a whole number for each client.
        count: C.

    Raises:
        ValueError: it is none of these.
    """
    if value is None or isinstance(value, Integral):
        return None
    found = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
    whole = found.dtype.kind in "iu"
    if not whole or found.shape != (count,) or found.min(initial=0) < 0 or found.max(initial=0) > MOST_STEPS:
        span = f", from {found.min()} to {found.max()}" if whole and found.size else ""
        raise ValueError(
            f"fit({name}=): a whole number, or one of at least 0 for each client, {[count]}; "
            f"this is {list(found.shape)} of {found.dtype}{span}"
        )
    return found.astype(np.int64)


def working(args: LocalSection, epochs: Any, steps: Any, sizes: Ints, keys: Ints) -> tuple[LocalSection, Ints | None]:
    """Return the section that a fit works by, and the steps of each client ``[C]``, where its program says these.

    >>> working(LocalSection(1, 4), [2, 0], None, np.array([7, 3]), np.array([0, 1]))[1]
    array([4, 0])

    Args:
        args: the section of the run.
        epochs: as the program says them; None: it does not.
        steps: likewise.
        sizes: numbers of examples, ``[C]``.
        keys: keys of the clients, ``[C]``.
    """
    each, said = each_ones("epochs", epochs, len(sizes)), each_ones("steps", steps, len(sizes))
    if said is None and (each is None or steps is not None):
        return args.working(None if each is not None else epochs, steps), None
    args = args.working(1, None)
    if said is None and each is not None:
        said = each * batches(args, sizes, keys)
    return args, said


def for_all(amount: Any) -> int | None:
    """Return a number of epochs or steps that a program says for all clients; None: none, or one for each.

    >>> for_all(3), for_all(torch.tensor([3, 1])), for_all(None)
    (3, None, None)
    """
    return int(amount) if isinstance(amount, Integral) else None


def once(orders: Orders, drawn: list[Orders], first: bool) -> Orders:
    """Return the same orders of a fit of the block before, where there are some, so that they are drawn once.

    A fit that is not the first one of its models makes do with those of another fit, where that shows in rounding
    alone: each step takes all examples of each client.

    Args:
        orders: of a fit.
        drawn: of the fits before, to which they are added.
        first: it is the first fit of its models in the round.
    """
    for before in drawn:
        if before.same(orders):
            return before
    if not first:
        any(orders.follow(before) for before in drawn)
    drawn.append(orders)
    return orders
