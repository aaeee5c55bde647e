"""One step of clients in training, and the fit that it belongs to, as a stepper runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from fedray import tasks
from fedray.config.sections import LocalSection
from fedray.core.draws import Look
from fedray.core.fragments import Fragments
from fedray.core.layout import Layout
from fedray.core.losses import LossFn
from fedray.core.messages import Parts
from fedray.core.regions import Entry
from fedray.data.augment_chain import Augment
from fedray.data.columns.base import ClientData
from fedray.local.batches import Batch, Batches, Output
from fedray.local.counting import counting_of
from fedray.local.gradients import gradient_of
from fedray.local.moments import Kept, Moments
from fedray.local.orders import Orders
from fedray.local.per_example import OfExamples
from fedray.local.private import ExamplePrivacy, FitNoise, HiddenBatch, hidden
from fedray.local.rate import LearningRate
from fedray.local.schedule import Schedule
from fedray.optim import OptimizerFn
from fedray.tasks import Positions

Objective = Callable[["Step"], Tensor]
"""A loss to train: a step to one loss for each of its clients, ``[A]``."""

Gradient = Callable[["Step", Tensor], Any]
"""A hook before the optimizer: a step and its gradients ``[A, D]``, to be changed in place."""

After = Callable[["Step"], Any]
"""A hook after the optimizer: a step, whose ``params`` may be changed in place."""


class Steps(Protocol):
    """The part of a stepper that a step needs, see :class:`fedray.local.steppers.Stepper`."""

    @property
    def draws(self) -> bool:
        """True where the module has dropout, so that the place of an example in a batch tells its mask."""

    def begin(self, c: Block, seed: int) -> None:
        """Begin a fit: dropout draws by its seed."""

    def drawing(self) -> AbstractContextManager[object]:
        """Return the context of a forward and its backward: dropout draws by name."""

    def look(self, number: int) -> Look:
        """Return the look at what a forward pass of a step, which begins now, and its backward draw."""

    def forward(self, step: Step, params: Tensor | None, batch: Batch, train: bool) -> Output:
        """Run the module on a batch, at ``params`` ``[A, D]``, ``[A, P]``, ``[D]`` or ``[P]``, or at the step's."""

    def loss(self, output: Output) -> Tensor:
        """Return the task's loss of each client, ``[A]``."""


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
    def loss_fn(self) -> LossFn: ...

    @property
    def optimizer_fn(self) -> OptimizerFn: ...

    @property
    def rate(self) -> LearningRate: ...

    @property
    def augment(self) -> Augment: ...

    @property
    def moments(self) -> Moments | None: ...

    @property
    def fragments(self) -> Fragments | None: ...

    @property
    def private(self) -> ExamplePrivacy | None: ...

    @property
    def about(self) -> tasks.Task: ...


class Block(Protocol):
    """The clients of a step, as it knows them: see :class:`fedray.local.clients.Clients`."""

    round: int
    down: Mapping[str, Tensor]
    state: Parts
    known: Tensor

    @property
    def task(self) -> Task: ...

    @property
    def stepper(self) -> Steps: ...

    @property
    def layout(self) -> Layout: ...

    @property
    def anchor(self) -> Tensor: ...

    @property
    def keys(self) -> Tensor: ...

    @property
    def sizes(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the A <= C clients that still train.

    >>> import numpy as np
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
        piece: the places of ``batch`` in that of the whole step, where gradients are accumulated; None: all.
        free: ``params`` ``[A, k]`` are numbers of any kind, no models.
    """

    c: Block
    number: int
    rows: slice | Tensor
    params: Tensor
    batch: Batch
    lr: float
    objective: Objective | None = None
    moved: frozenset[str] | None = None
    second: Callable[[int, int], Batch] | None = None
    attached: bool = True
    piece: slice | None = None
    free: bool = False

    def cut(self, piece: slice) -> Step:
        """Return the step with a piece of its batch."""
        return replace(self, batch=self.batch.cut(piece), piece=piece)

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
        if params is None and self.free:
            raise ValueError("step.forward(): what this fit trains is no model: name one, step.forward(params)")
        return self.c.stepper.forward(self, params, self.batch if batch is None else batch, train)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of ``[A, B]`` values over each client's real examples, ``[A]``.

        Of positions, ``[A, B, n]`` in the order of ``c.task.about.labels``, it is that over those that the task's loss
        counts.
        """
        about = None if values.dim() == 2 else self.c.task.about
        if not isinstance(about, Positions):
            return self.batch.mean(values)
        y = self.batch.y
        known = about.known(about.labels(y.flatten(0, 1)))
        if known is None:
            return self.batch.mean(values.mean(dim=2))
        sums = values.masked_fill(~known.view(values.shape), 0.0).sum(dim=2)
        if (counting := counting_of(self.c.task.loss_fn)) is not None:
            return counting.mean(sums, self.batch)
        return self.batch.mean(sums / known.sum(dim=1).view(sums.shape).clamp(min=1))

    def loss(self, output: Output | None = None) -> Tensor:
        """Return the task's loss, ``[A]``, of an output; default: that of ``forward()``."""
        return self.c.stepper.loss(self.forward() if output is None else output)

    def gradient(self, params: Tensor | None = None, batch: Batch | None = None, *, graph: bool = False) -> Tensor:
        """Return the gradient of the objective at other parameters, or on another batch, ``[A, D]``.

        Args:
            params: those parameters, ``[A, D]`` or ``[D]``, of ``[A, P]`` or ``[P]`` the first, or what else the fit
                trains; default: the step's.
            batch: default: the step's.
            graph: make it differentiable.
        """
        batch = self.batch if batch is None else batch
        with torch.enable_grad(), self.c.stepper.drawing():
            place = self.params if params is None else params
            place = place if self.free else place[..., : self.c.layout.trained]
            place = place.expand(len(batch.x), -1)
            place = place if graph and place.requires_grad else place.detach().requires_grad_()
            at = replace(self, params=place, batch=batch, attached=False)
            look = self.c.stepper.look(self.number)
            return gradient_of((self.objective or Step.loss)(at), at.params, graph, look)

    def fresh_batch(self) -> Batch:
        """Return the batch of this step in another order of the examples."""
        assert self.second is not None
        batch = self.second(self.number, len(self.batch.x))
        return batch if self.piece is None else batch.cut(self.piece)


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
        kept: the state that it goes on with and leaves; None: it begins afresh.
        free: ``models`` ``[C, k]`` are numbers of any kind, for :func:`fedray.local.numbers.fit_numbers`.
        added: a loss of each example beside the task's, where rows are protected; else the objective has it.
    """

    models: Tensor
    only: tuple[Entry, ...] | None
    orders: Orders
    objective: Objective | None
    gradient: Gradient | None
    after: After | None
    optimizer: OptimizerFn
    kept: Kept | None = None
    free: bool = False
    added: OfExamples | None = None

    @property
    def noise(self) -> FitNoise | None:
        """The noise on its gradients, whose batches hooks do not see; None: they are as they are."""
        return self.orders.noise

    @property
    def schedule(self) -> Schedule:
        """The examples of each step."""
        return self.orders.schedule

    @property
    def batches(self) -> Batches:
        """The same, to be taken."""
        return self.orders.own

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

    def step(self, c: Block, number: int, params: Tensor, batch: Batch, lr: float) -> Step:
        """Return a step, for objective and hooks."""
        rows = self.rows(len(params))
        second, attached = self.orders.second, not self.free
        if self.noise is not None:
            batch, second = HiddenBatch(), _no_batch  # type: ignore[assignment]
        return Step(c, number, rows, params, batch, lr, self.objective, self.moved, second, attached, free=self.free)


def evaluated(step: Step) -> Tensor:
    """Return the task's loss of a step of an evaluation, ``[A]``."""
    return step.loss(step.forward(step.params, train=False))


def _no_batch(step: int, rows: int) -> Batch:
    hidden("step.fresh_batch()")
