"""A block of clients in a round, and the fit, its one local loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedray.core.layout import Layout, Only
from fedray.core.messages import DELTA, Ints, Parts
from fedray.core.rng import Stream, integer
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.rows import Rows
from fedray.local.added import Added, parted
from fedray.local.batches import Batches, Trace
from fedray.local.counting import whole_mean
from fedray.local.guards import check_apart, check_rows, check_slots, is_free, same_memory
from fedray.local.moments import Kept, rows_of
from fedray.local.numbers import fit_numbers
from fedray.local.orders import Orders, Work, chosen, for_all, once, working
from fedray.local.private import hidden
from fedray.local.schedule import Schedule
from fedray.local.step import After, Fit, Gradient, Objective, Step, Steps, Task, evaluated
from fedray.local.work import shared_rate
from fedray.optim import OptimizerFn
from fedray.tasks import Positions

_WIDTH = 256

_WRITTEN_INTO = ("model", "params", "anchor", "delta")


class Fits(Steps, Protocol):
    """The part of a stepper that a block needs."""

    def fit(self, c: Clients, fit: Fit) -> Trace:
        """Train ``fit.models`` ``[C, D]`` or ``[C, P]`` in place."""


@dataclass(eq=False)
class Clients:
    """A block of C clients in a round, those with the most local steps first.

    >>> from fedray.parts import Algorithm
    >>> class PerStep(Algorithm):
    ...     def client(self, c: Clients) -> None:
    ...         trace = c.fit()
    ...         c.send("delta", c.delta / trace.steps)
    >>> PerStep().plain  # it is more than a fit
    False

    Args:
        task: the local training problem.
        stepper: the way that they take their steps.
        round: round number.
        index: client indices ``[C]``.
        down: everything the server broadcast; ``down["model"]`` is the global vector ``[P]``.
        state: the state of each client since its last participation, ``[C, k]``; a program writes the new one here.
        known: True for those that have a state, ``[C]``.
        model: their models, ``[C, P]``: the global one until a fit.
        rows: their examples.
        home: the parts of their models that stay with them, as they start, ``[C, k]``; None: there are none.
        kept: the state of their optimizers that is kept, ``[C, W]``; None: there is none.
        key: the key of the noise of their steps; empty: it is drawn by keys that nobody keeps.

    Attributes:
        sent: the parts that clients send, by name.
        slots: of parts that are averaged by slots, the slot of each client and the number of slots.
        apart: the parts of which the server keeps each client's.
        weight: the weights ``[C]`` of the clients in all means, above 0, instead of those of ``algorithm.weight``;
            best about 1.
        traces: the fits of the models so far.
        fitted: the number of examples that all fits so far used.
        others: the number of fits of other models so far, with the configured optimizer.
        taken: the steps of each client in all fits so far whose gradients had noise, ``[C]``.
        works: the epochs and steps that each of these fits said itself.
    """

    task: Task
    stepper: Fits
    round: int
    index: Ints
    down: Mapping[str, Tensor]
    state: Parts
    known: Tensor
    model: Tensor
    rows: Rows
    home: Tensor | None = None
    kept: Tensor | None = None
    key: bytes = field(default=b"", repr=False)
    sent: Parts = field(default_factory=dict)
    slots: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    apart: Parts = field(default_factory=dict)
    weight: Tensor | None = None
    traces: list[Trace] = field(default_factory=list)
    fitted: int = 0
    others: int = 0
    taken: Ints = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    works: list[Work] = field(default_factory=list)
    _fits: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    _orders: list[Orders] = field(default_factory=list)
    _fitting: bool = False

    def __setattr__(self, name: str, value: object) -> None:
        if name in _WRITTEN_INTO and (name != "model" or "model" in self.__dict__):
            raise AttributeError(f"c.{name} cannot be replaced: write into the models, c.params.copy_(...)")
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def layout(self) -> Layout:
        """The model's layout."""
        return self.task.layout

    @cached_property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.model.device

    @cached_property
    def anchor(self) -> Tensor:
        """The parameters that the clients start from; read-only.

        They are the global ones, ``[D]``, or, where some are personal, ``[C, D]``: see :attr:`Step.anchor`.
        """
        start = self.down["model"]
        if self.layout.shared < self.layout.trained and self.home is not None:
            start = start.repeat(len(self), 1)
            self.layout.put_personal(start, self.home)
        return start[..., : self.layout.trained]

    def shared(self, values: Tensor) -> Tensor:
        """Return the columns of parameters that travel, ``[..., S]``, of values for all, ``[..., D]``: a view."""
        return values[..., : self.layout.shared]

    @cached_property
    def params(self) -> Tensor:
        """Their parameters now, ``[C, D]``: a view of ``model``."""
        return self.model[:, : self.layout.trained]

    @property
    def delta(self) -> Tensor:
        """The change of their parameters that travel so far, ``[C, S]``."""
        return self.shared(self.params) - self.shared(self.down["model"])

    @cached_property
    def counts(self) -> Ints:
        """The number of training examples of each client, ``[C]``, as integers."""
        return self.task.data.sizes[self.index]

    @cached_property
    def sizes(self) -> Tensor:
        """The number of training examples of each client, float32 ``[C]``."""
        return torch.from_numpy(self.counts).to(self.device, torch.float32)

    @cached_property
    def labels(self) -> Tensor:
        """The training examples of each client in each class, or their positions that count, float32 ``[C, K]``."""
        self._open("c.labels")
        data, about = self.task.data, self.task.about
        if isinstance(about, Positions):
            counts = torch.stack([about.class_counts(data.targets(client)) for client in self.index.tolist()])
        else:
            counts = torch.from_numpy(data.label_counts()[self.index])
        return counts.to(self.device, torch.float32)

    @cached_property
    def keys(self) -> Tensor:
        """The names of the clients in draws, int64 ``[C]``."""
        return torch.from_numpy(self.task.data.keys(self.index)).to(self.device)

    def uniform(self, count: int, turn: int = 0) -> Tensor:
        """Draw numbers from [0, 1) with 24 bits, float32 ``[C, count]``, named by seed, round and client.

        They are the same whoever else is in the block, on any worker and after a resume.

        >>> from fedray.parts import Algorithm
        >>> class Dropped(Algorithm):
        ...     def client(self, c: Clients) -> None:
        ...         c.fit()
        ...         c.send("delta", c.delta * (c.uniform(c.layout.shared) < 0.5))

        Args:
            count: the number of draws for each client, from 0 on.
            turn: from 0 to 2**32 - 1; who draws twice of one turn draws the same.  In a hook it may be the step's,
                ``c.uniform(3, step.number)[step.rows]``.

        Raises:
            ValueError: one of them is out of range.
        """
        if count < 0 or not 0 <= turn < 1 << 32:
            raise ValueError(f"c.uniform({count}, turn={turn}): count is from 0 on, turn from 0 to 2**32 - 1")
        return Stream(self.task.seed, "program", self.round).uniform(self.keys, torch.full_like(self.keys, turn), count)

    @property
    def lr(self) -> float:
        """The client learning rate of the round."""
        return float(self._optimizer([torch.zeros(1)]).param_groups[0]["lr"])

    def _optimizer(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Make the configured optimizer, at the rate of the round."""
        made = self.task.optimizer_fn(params)
        own = shared_rate(self.task.args, self.task.data, self.index) if self.task.args.rates else None
        self.task.rate.enter(made.param_groups, self.round, own)
        return made

    def send(
        self, name: str, value: Tensor, *, slot: Tensor | Ints | None = None, slots: int = 1, apart: bool = False
    ) -> None:
        """Send a part ``[C, k]`` or ``[C]`` besides the update, or ``delta`` ``[C, S]`` in its place.

        Args:
            name: its name.
            value: a row or a number for each client.
            slot: integers ``[C]`` below ``slots``: the mean is taken within each slot, ``total[name]`` is
                ``[slots, k]``, and ``total.shares[name]`` has the share of the weight in each, ``[slots]``.  With
                ``slot=c.index, slots=N`` it is what each client said.  Of ``delta`` an algorithm's own ``step`` makes
                what it will.
            slots: the number of slots, the same in every round.
            apart: there is no mean: the server keeps the row of each client, on disk, in the place of the one that it
                sent before, ``s.rows.read(name, clients)``.
        """
        value = check_rows(name, value, len(self))
        if apart:
            check_apart(name, slot, value)
            self.apart[name] = value.clone() if same_memory(value, self.model) else value
            return
        if name == DELTA and value.shape[1] != self.layout.shared:
            raise ValueError(
                f"send('delta'): the update of what travels, {[len(self), self.layout.shared]}, as c.delta is; "
                f"this one is {list(value.shape)}"
            )
        if slot is not None:
            self.slots[name] = check_slots(name, slot, slots, len(self)).to(self.device), slots
        # The memory of the models becomes the update.
        self.sent[name] = value.clone() if same_memory(value, self.model) else value

    def fit(
        self,
        params: Tensor | None = None,
        *,
        where: Tensor | None = None,
        only: Only | None = None,
        epochs: int | Tensor | Sequence[int] | None = None,
        steps: int | Tensor | Sequence[int] | None = None,
        objective: Objective | None = None,
        added: Added | None = None,
        gradient: Gradient | None = None,
        after: After | None = None,
        optimizer: OptimizerFn | None = None,
    ) -> Trace:
        """Train models in place: the one local loop.

        The k-th fit of the clients' models draws the same orders and masks, whatever else is fitted.  One in which
        nobody takes a step leaves all as it is: no stepper and no hook sees it.

        Args:
            params: the models, ``[C, D]``, or ``[C, P]`` with buffers of their own; default: the clients'.  Numbers of
                any other width, ``[C, k]``, are trained as well, where an objective says what they are: it runs models
                by ``step.forward(params)``, and ``step.params`` are the numbers.
            where: the clients that train, ``[C]``, such as ``~c.known``; the others stay as they are, and their later
                fits draw the same; default: all.
            only: the tensors that it moves: those of a region, or those for whose entry a function says True; the
                optimizer never sees the others.  A fit of none is no fit, and draws nothing.
            epochs: passes over the local data, instead of the configured ones; one number, or one for each client,
                integers ``[C]`` (0: it does not train).
            steps: local steps, instead of the configured work; likewise.
            objective: a step to one loss for each of its clients, ``[A]``; default: the task's.
            added: a loss of each example by itself, added to the task's, where there is no objective.
            gradient: is given each step and its gradients ``[A, D]`` before the optimizer, to change them in place.
            after: is given each step after the optimizer, to change ``step.params`` in place.
            optimizer: makes the optimizer, elementwise where clients are stacked; default: the configured one.

        Raises:
            RuntimeError: a fit inside a fit, which would move clients that have finished.
            ValueError: numbers that are no models without an objective, an amount of work that is none, or both
                ``objective`` and ``added``.
        """
        if self._fitting:
            raise RuntimeError("a fit inside a fit would move clients that have finished: loop over step.gradient")
        task, own = self.task, params is None or params is self.params or params is self.model
        if objective is not None:
            self._open("an objective of the program's own")
        objective, added = parted(objective, added, task.private is not None)
        entries = self.layout.chosen(only)
        if not entries:
            return self._still()
        keys = task.data.keys(self.index)
        args, work = working(task.args, epochs, steps, self.counts, keys)
        # Private fits share neither noise nor coins: each is a release of its own.
        number = self._fits[own] if task.private is None else sum(self._fits.values())
        self._fits[own] += 1
        seed = integer(task.seed, "order", number) if number else task.seed
        secrets = None if task.private is None else task.private.keys(self.key, number)
        seed = seed if secrets is None else secrets.seed
        some = chosen(where, len(self))
        drawn = args, self.rows, self.counts, keys, seed, task.seed, self.round, self.device, some
        orders = once(
            Orders(*drawn, task.augment, work, task.private, secrets),
            self._orders,
            first=not number or self.stepper.draws,
        )
        free = not own and params is not None and is_free(params, len(self), self.layout, objective, only)
        mine = None
        if optimizer is None and not free:
            self.others += not own
            mine = rows_of(self.kept, task.moments, 0 if own else self.others)
        if task.private is None and not orders.schedule.steps.any():
            trace = self._still()
            self.traces += [trace] if own else []
            return trace
        whole = self.model if own or params is None else params
        made, trained = optimizer or self._optimizer, orders.taken(whole)
        kept = None if mine is None else Kept(task.moments, orders.taken(mine))  # type: ignore[arg-type]
        self._fitting = True
        try:
            fit = Fit(
                trained, None if only is None else entries, orders, objective, gradient, after, made, kept, free, added
            )
            trace = fit_numbers(self, fit, args) if free else self.stepper.fit(self, fit)
        finally:
            self._fitting = False
        if kept is not None:
            orders.put_back(mine, kept.rows)  # type: ignore[arg-type]
        orders.put_back(whole, trained, trace)
        self.fitted += int(trace.count.sum())
        if trace.taken is not None:
            self.taken, self.works = self.taken + trace.taken, [*self.works, (for_all(epochs), for_all(steps))]
        if own:
            self.traces.append(trace)
        return trace

    def _still(self) -> Trace:
        """Return the trace of a fit in which nobody takes a step."""
        none = np.zeros((len(self), 1), dtype=np.int64)
        return Trace(np.zeros(len(self)), none, self._optimizer([torch.zeros(1)]).param_groups[0], self.device)

    def _open(self, what: str) -> None:
        """Raise ConfigError if rows are protected, and ``what`` looks at them."""
        if self.task.private is not None:
            hidden(what)

    def scan(
        self, params: Tensor | None = None, examples: tuple[Rows, Ints] | None = None, *, rows: int | None = None
    ) -> Iterator[Step]:
        """Go through all training examples once, in order, in evaluation mode.

        Every step has all C clients: who has no more examples has a count of 0.

        Args:
            params: the parameters, ``[C, D]`` or ``[D]``, with buffers ``[C, P]`` or ``[P]``; default: those now.
            examples: other examples, with the number ``[C]`` of each client.
            rows: the most rows of a step, those of all clients together; default: 256 of each client.
        """
        if examples is None:
            self._open("c.scan(), c.losses() or c.gradients()")
        place = (self.params if params is None else params).detach()
        store, counts = examples or (self.rows, self.counts)
        width = _WIDTH if rows is None else min(_WIDTH, max(1, rows // len(self)))
        for start in range(0, int(counts.max()), width):
            count = np.clip(counts - start, 0, width)
            index = np.broadcast_to(np.arange(start, start + int(count.max())), (len(self), int(count.max())))
            schedule = Schedule(np.where(index < counts[:, None], index, 0)[:, None], count[:, None])
            batch = Batches(store, schedule, self.device, self._seen).at(0, len(self))
            yield Step(self, 0, slice(0, len(self)), place, batch, 0.0, evaluated, attached=False)

    def _seen(self, x: Inputs, step: int) -> Inputs:
        """Return inputs ``[C, B, ...]`` as evaluations see them."""
        return self.task.augment.seen(x) if self.task.augment.parts else x

    def losses(self, params: Tensor | None = None) -> Tensor:
        """Return the mean loss over all training examples, or their positions that count, ``[C]``; ``params`` as for
        :meth:`scan`.
        """
        with torch.no_grad():
            found = [(step.batch, evaluated(step)) for step in self.scan(params)]
        return whole_mean(self.task.loss_fn, found, self.sizes)

    def gradients(self, params: Tensor | None = None) -> Tensor:
        """Return the gradient of that mean loss, ``[C, D]``; ``params`` as for :meth:`scan`."""
        found = [(step.batch, step.gradient()) for step in self.scan(params)]
        return whole_mean(self.task.loss_fn, found, self.sizes)
