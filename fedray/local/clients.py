"""A block of clients in a round, its steps, and the fit, the one local loop: all that a client program sees."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fedray.config.sections import LocalSection
from fedray.core.layout import Layout, Only
from fedray.core.messages import Ints, Parts
from fedray.core.regions import Entry
from fedray.core.rng import integer
from fedray.data.columns.base import ClientData
from fedray.data.columns.rows import Rows
from fedray.local.batches import Batch, Batches, Output, Trace
from fedray.local.gradients import gradient_of
from fedray.local.orders import Orders, chosen
from fedray.local.rate import LearningRate
from fedray.local.schedule import Schedule
from fedray.optim import OptimizerFn

Objective = Callable[["Step"], Tensor]
"""A loss to train: a step to one loss for each of its clients, ``[A]``."""

Gradient = Callable[["Step", Tensor], Any]
"""A hook before the optimizer: a step and its gradients ``[A, D]``, to be changed in place."""

After = Callable[["Step"], Any]
"""A hook after the optimizer: a step, whose ``params`` may be changed in place."""

_WIDTH = 256


class Task(Protocol):
    """The part of the local training problem that a block needs, see :class:`fedray.local.task.LocalTask`."""

    @property
    def data(self) -> ClientData: ...

    @property
    def layout(self) -> Layout: ...

    @property
    def args(self) -> LocalSection: ...

    @property
    def seed(self) -> int: ...

    @property
    def optimizer_fn(self) -> OptimizerFn: ...

    @property
    def rate(self) -> LearningRate: ...


class Steps(Protocol):
    """The part of a stepper that a block needs, see :class:`fedray.local.steppers.Stepper`."""

    def drawing(self) -> AbstractContextManager[object]:
        """Return the context of a forward and its backward: dropout draws by name."""

    def fit(self, c: Clients, fit: Fit) -> Trace:
        """Train ``fit.params`` ``[C, D]`` in place."""

    def forward(self, step: Step, params: Tensor | None, batch: Batch, train: bool) -> Output:
        """Run the module on a batch, at ``params`` ``[A, D]``, ``[A, P]``, ``[D]`` or ``[P]``, or at the step's."""

    def loss(self, output: Output) -> Tensor:
        """Return the task's loss of each client, ``[A]``."""


@dataclass(eq=False)
class Step:
    """One step of the A <= C clients that still train.

    >>> batch = Batch(torch.zeros(1, 3, 2), torch.zeros(1, 3), np.array([3]))
    >>> step = Step(None, number=0, rows=slice(0, 1), params=torch.zeros(1, 4), batch=batch, lr=0.1)
    >>> step.mean(torch.tensor([[1.0, 2.0, 6.0]]))
    tensor([3.])

    Args:
        c: the block.
        number: of the step in its fit, from 0.
        rows: the places of these clients in the block's tensors, to read and to assign ``c.state["own"][step.rows]``;
            what is read may be a view or a copy.
        params: their parameters now, ``[A, D]``; in an objective gradients reach it, in a hook it may be changed.
        batch: their examples.
        lr: the client learning rate.
        objective: the loss that is trained; None: the task's.
        moved: the names of the tensors that the fit moves; None: all.
        second: gives the batch of another order of the examples.
        attached: the modules of a client that steps alone hold ``params``.
    """

    c: Clients
    number: int
    rows: slice | Tensor
    params: Tensor
    batch: Batch
    lr: float
    objective: Objective | None = None
    moved: frozenset[str] | None = None
    second: Callable[[int, int], Batch] | None = None
    attached: bool = True

    @property
    def anchor(self) -> Tensor:
        """The parameters that these clients started from, ``[D]``, or ``[A, D]`` where some are personal; read-only."""
        anchor = self.c.anchor
        return anchor if anchor.dim() == 1 else anchor[self.rows]

    def forward(self, params: Tensor | None = None, batch: Batch | None = None, *, train: bool = True) -> Output:
        """Run the module on a batch.

        All forwards of a step draw the same dropout masks.

        Args:
            params: the parameters, ``[A, D]``, or ``[D]`` for one model; ``[A, P]`` and ``[P]`` bring buffers of their
                own.  Default: those that are trained, whose forward alone may move running statistics.
            batch: default: the step's.
            train: in training mode; False for a teacher.
        """
        return self.c.stepper.forward(self, params, self.batch if batch is None else batch, train)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of ``[A, B]`` values over each client's real examples, ``[A]``."""
        return self.batch.mean(values)

    def loss(self, output: Output | None = None) -> Tensor:
        """Return the task's loss, ``[A]``, of an output; default: that of ``forward()``."""
        return self.c.stepper.loss(self.forward() if output is None else output)

    def gradient(self, params: Tensor | None = None, batch: Batch | None = None, *, graph: bool = False) -> Tensor:
        """Return the gradient of the objective at other parameters, or on another batch, ``[A, D]``.

        Args:
            params: those parameters, ``[A, D]`` or ``[D]``, of ``[A, P]`` or ``[P]`` the first; default: the step's.
            batch: default: the step's.
            graph: make it differentiable.
        """
        at = copy.copy(self)
        at.batch, at.attached = self.batch if batch is None else batch, False
        with torch.enable_grad(), self.c.stepper.drawing():
            place = (self.params if params is None else params)[..., : self.c.layout.trained]
            place = place.expand(len(at.batch.x), -1)
            at.params = place if graph and place.requires_grad else place.detach().requires_grad_()
            return gradient_of((self.objective or Step.loss)(at), at.params, graph)

    def fresh_batch(self) -> Batch:
        """Return the batch of this step in another order of the examples."""
        assert self.second is not None
        return self.second(self.number, len(self.batch.x))


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit, as a stepper runs it.

    Args:
        models: the models ``[C, D]`` or, with buffers of their own, ``[C, P]``, whose parameters it trains in place.
        only: the entries that it moves; None: all.
        orders: the batches of each step.
        objective: the loss; None: the task's.
        gradient: see :data:`Gradient`.
        after: see :data:`After`.
        optimizer: makes the optimizer.
    """

    models: Tensor
    only: tuple[Entry, ...] | None
    orders: Orders
    objective: Objective | None
    gradient: Gradient | None
    after: After | None
    optimizer: OptimizerFn

    @cached_property
    def schedule(self) -> Schedule:
        """The examples of each step."""
        return self.orders.placed(self.orders.drawn)

    @cached_property
    def batches(self) -> Batches:
        """The same, to be taken."""
        return self.orders.batches(self.schedule)

    @cached_property
    def moved(self) -> frozenset[str] | None:
        """The names of the entries that it moves; None: all of them."""
        return None if self.only is None else frozenset(entry.name for entry in self.only)

    @property
    def seed(self) -> int:
        """The name of its draws."""
        return self.orders.seed

    def rows(self, count: int) -> slice | Tensor:
        """Return the places of the first ``count`` of its clients in the block."""
        places = self.orders.places
        return slice(0, count) if places is None else torch.from_numpy(places[:count]).to(self.models.device)

    @property
    def hooked(self) -> bool:
        """True where the program looks into the steps."""
        return any(hook is not None for hook in (self.objective, self.gradient, self.after))

    def step(self, c: Clients, number: int, params: Tensor, batch: Batch, lr: float) -> Step:
        """Return a step, for objective and hooks."""
        rows = self.rows(len(params))
        return Step(c, number, rows, params, batch, lr, self.objective, self.moved, self.orders.second)


@dataclass(eq=False)
class Clients:
    """A block of C clients in a round, those with the most local steps first.

    >>> from fedray.parts import AlgorithmConfig
    >>> class PerStep(AlgorithmConfig):
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

    Attributes:
        sent: the parts that clients send, by name.
        traces: the fits of the models so far.
    """

    task: Task
    stepper: Steps
    round: int
    index: Ints
    down: Parts
    state: Parts
    known: Tensor
    model: Tensor
    rows: Rows
    home: Tensor | None = None
    sent: Parts = field(default_factory=dict)
    traces: list[Trace] = field(default_factory=list)
    _fits: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    _fitting: bool = False

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
        """The training examples of each client in each class, float32 ``[C, K]``."""
        counts = self.task.data.label_counts()[self.index]
        return torch.from_numpy(counts).to(self.device, torch.float32)

    @cached_property
    def keys(self) -> Tensor:
        """The names of the clients in draws, int64 ``[C]``."""
        return torch.from_numpy(self.task.data.keys(self.index)).to(self.device)

    @property
    def lr(self) -> float:
        """The client learning rate of the round."""
        return float(self._optimizer([torch.zeros(1)]).param_groups[0]["lr"])

    def _optimizer(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Make the configured optimizer, at the rate of the round."""
        made = self.task.optimizer_fn(params)
        self.task.rate.enter(made.param_groups, self.round)
        return made

    def send(self, name: str, value: Tensor) -> None:
        """Send a part ``[C, k]`` or ``[C]`` besides the update, or ``delta`` ``[C, S]`` in its place."""
        self.sent[name] = value.unsqueeze(1) if value.dim() == 1 else value

    def fit(
        self,
        params: Tensor | None = None,
        *,
        where: Tensor | None = None,
        only: Only | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        objective: Objective | None = None,
        gradient: Gradient | None = None,
        after: After | None = None,
        optimizer: OptimizerFn | None = None,
    ) -> Trace:
        """Train models in place: the one local loop.

        The k-th fit of the clients' models draws the same orders and masks, whatever else is fitted.

        Args:
            params: the models, ``[C, D]``, or ``[C, P]`` with buffers of their own; default: the clients'.
            where: the clients that train, ``[C]``, such as ``~c.known``; the others stay as they are, and their later
                fits draw the same; default: all.
            only: the tensors that it moves: those of a region, or those for whose entry a function says True; the
                optimizer never sees the others.  A fit of none is no fit, and draws nothing.
            epochs: passes over the local data, instead of the configured ones.
            steps: local steps, instead of the configured work.
            objective: a step to one loss for each of its clients, ``[A]``; default: the task's.
            gradient: is given each step and its gradients ``[A, D]`` before the optimizer, to change them in place.
            after: is given each step after the optimizer, to change ``step.params`` in place.
            optimizer: makes the optimizer, elementwise where clients are stacked; default: the configured one.

        Raises:
            RuntimeError: a fit inside a fit, which would move clients that have finished.
        """
        if self._fitting:
            raise RuntimeError("a fit inside a fit would move clients that have finished: loop over step.gradient")
        task, own = self.task, params is None or params is self.params or params is self.model
        entries = self.layout.chosen(only)
        if not entries:
            none = np.zeros((len(self), 1), dtype=np.int64)
            return Trace(np.zeros(len(self)), none, self._optimizer([torch.zeros(1)]).param_groups[0], self.device)
        args = task.args.working(epochs, steps)
        number = self._fits[own]
        self._fits[own] += 1
        seed = integer(task.seed, "order", number) if number else task.seed
        keys, some = task.data.keys(self.index), chosen(where, len(self))
        orders = Orders(args, self.rows, self.counts, keys, seed, task.seed, self.round, self.device, some)
        whole = self.model if own or params is None else params
        made, trained = optimizer or self._optimizer, orders.taken(whole)
        self._fitting = True
        try:
            fit = Fit(trained, None if only is None else entries, orders, objective, gradient, after, made)
            trace = self.stepper.fit(self, fit)
        finally:
            self._fitting = False
        orders.put_back(whole, trained, trace)
        if own:
            self.traces.append(trace)
        return trace

    def scan(self, params: Tensor | None = None) -> Iterator[Step]:
        """Go through all training examples once, in order, in evaluation mode.

        Every step has all C clients: who has no more examples has a count of 0.

        Args:
            params: the parameters, ``[C, D]`` or ``[D]``, with buffers ``[C, P]`` or ``[P]``; default: those now.
        """
        place = (self.params if params is None else params).detach()
        for start in range(0, int(self.counts.max()), _WIDTH):
            count = np.clip(self.counts - start, 0, _WIDTH)
            index = np.broadcast_to(np.arange(start, start + int(count.max())), (len(self), int(count.max())))
            schedule = Schedule(np.where(index < self.counts[:, None], index, 0)[:, None], count[:, None])
            batch = Batches(self.rows, schedule, self.device).at(0, len(self))
            yield Step(self, 0, slice(0, len(self)), place, batch, 0.0, lambda step: _evaluated(step), attached=False)

    def losses(self, params: Tensor | None = None) -> Tensor:
        """Return the mean loss over all training examples, ``[C]``; ``params`` as for :meth:`scan`."""
        with torch.no_grad():
            return self._mean([(step, _evaluated(step)) for step in self.scan(params)])

    def gradients(self, params: Tensor | None = None) -> Tensor:
        """Return the gradient of that mean loss, ``[C, D]``; ``params`` as for :meth:`scan`."""
        return self._mean([(step, step.gradient()) for step in self.scan(params)])

    def _mean(self, found: list[tuple[Step, Tensor]]) -> Tensor:
        pieces = [value * _like(torch.from_numpy(step.batch.count), value) for step, value in found]
        return torch.stack(pieces).sum(dim=0) / _like(self.sizes, found[0][1])


def _like(numbers: Tensor, values: Tensor) -> Tensor:
    """Return one number for each client ``[C]`` in the shape of ``[C]`` or ``[C, D]`` values."""
    return numbers.to(values).view(-1, *(1 for _ in values.shape[1:]))


def _evaluated(step: Step) -> Tensor:
    return step.loss(step.forward(step.params, train=False))
