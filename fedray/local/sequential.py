"""One client at a time, in the user's module itself: for models that do not stack or do not gain from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fedray.core.draws import Look, RepeatedDraws, named
from fedray.core.hidden_state import HiddenState
from fedray.core.regions import head_of
from fedray.core.rng import integer
from fedray.data.columns.inputs import Inputs
from fedray.local.batches import Batch, Output, Trace, share_out
from fedray.local.clients import Clients
from fedray.local.clipping import clip_module
from fedray.local.counting import counting_of
from fedray.local.dropout import NamedDropout, has_dropout, recomputing
from fedray.local.early import LARGE, EarlySteps
from fedray.local.features import watched
from fedray.local.gradients import check_objective
from fedray.local.guards import check_in_place
from fedray.local.per_example import Beside, ClippedGradients
from fedray.local.replicas import Replica
from fedray.local.standing import Standing
from fedray.local.step import Block, Fit, Objective, Step
from fedray.local.task import LocalTask, autocast
from fedray.optim.base import steps_apart
from fedray.tasks import outputs_of


class SequentialStepper:
    """The training of one client: the module's tensors are views of one row, so any module and any optimizer works.

    On several devices the optimizer, the hooks and the row are on the first; in each step the others get a copy of the
    row and a share of the batch, and give their gradients.  That equals one device up to rounding.

    What the model, the loss or the optimizer function remembers elsewhere is put back after each client.  Random draws
    other than dropout come from the process's generators, named by (seed, round, client).
    """

    def __init__(self, task: LocalTask, module: nn.Module, devices: Sequence[torch.device]) -> None:
        self._task = task
        self._first = self._replica(task, module, devices[0])
        self._others = [Replica(task, task.model_fn(), device) for device in devices[1:]]
        self.row = self._first.row
        self._modes = {part: part.training for part in module.modules()}
        self._head, self._standing = head_of(module), Standing(module)
        self._dropout = NamedDropout(task.seed) if has_dropout(module) else None
        replicas = (self._first, *self._others)
        self._repeated = RepeatedDraws([r.device for r in replicas if r.device.type == "cuda"])
        self._counting = counting_of(task.loss_fn)
        self._early: EarlySteps | None = None
        self._private = None
        if task.private is not None:
            clipped = ClippedGradients(module, task.loss_fn, None, self._dropout, self._context)
            self._private = task.private.gradients(clipped)

    @staticmethod
    def _replica(task: LocalTask, module: nn.Module, device: torch.device) -> Replica:
        return Replica(task, module, device)

    @staticmethod
    def fits(task: LocalTask, devices: Sequence[torch.device]) -> str | None:
        """Return why not: blocks of several clients."""
        return None if task.stacking.size == 1 else f"{task.stacking.size} clients are a block, and it steps one"

    @classmethod
    def of(cls, task: LocalTask, devices: Sequence[torch.device]) -> SequentialStepper:
        """Make one on as many of the devices as ``task.sharing`` says."""
        return cls(task, task.model_fn(), devices[: task.sharing.devices])

    def locals(self, count: int) -> Tensor:
        """Return the row, ``[1, P]``, of which the module's tensors are views."""
        return self.row.unsqueeze(0)

    @property
    def hidden(self) -> HiddenState:
        """The hidden state of model, loss and optimizer function: what they remember elsewhere."""
        return self._first.hidden

    @contextlib.contextmanager
    def alone(self, c: Clients) -> Iterator[None]:
        """Name all draws by the client, and put back what the model, the loss or the optimizer function remember."""
        task, replicas, client = self._task, (self._first, *self._others), int(c.keys[0])
        devices = [replica.device for replica in replicas if replica.device.type == "cuda"]
        with contextlib.ExitStack() as entered:
            entered.enter_context(named(task.seed, "local", c.round, client, devices))
            for replica in replicas:
                entered.enter_context(replica.hidden.put_back(integer(task.seed, "local", c.round, client)))
            yield

    @property
    def draws(self) -> bool:
        """True where the module has dropout, see :class:`fedray.local.step.Steps`."""
        return self._dropout is not None

    def begin(self, c: Block, seed: int) -> None:
        """See :meth:`fedray.local.step.Steps.begin`."""
        self._repeated.fit_begins()
        if self._dropout is not None:
            self._dropout.name(seed)
            self._dropout.client = c.keys[0]

    def drawing(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which dropout draws by name, computed again in a backward, too."""
        return recomputing(self._dropout, self._standing, reentrant=False)

    def look(self, number: int) -> Look:
        """See :meth:`fedray.local.step.Steps.look`."""
        return self._repeated.look(number)

    # The module

    def forward(self, step: Step, params: Tensor | None, batch: Batch, train: bool) -> Output:
        """See :meth:`fedray.local.steppers.Stepper.forward`."""
        module, device, order = self._first.module, self._first.device, self._task.format
        x = order.put(batch.x[0].to(device))
        self._turn(step)
        with (
            autocast(self._task.args.precision, device),
            self.drawing(),
            self._in_mode(train),
            watched(module, self._head) as seen,
        ):
            if params is None and step.attached:
                logits = order.keep(outputs_of(module, x))
            else:
                layout = self._task.layout
                row = (step.params if params is None else params).reshape(1, -1)
                own = {name: tensor[0] for name, tensor in layout.split(row[:, : layout.trained]).items()}
                buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
                if row.shape[1] > layout.trained:
                    buffers |= {name: buffer[0].clone() for name, buffer in layout.buffers_of(row).items()}
                with self._standing.of({**own, **buffers}):
                    logits = order.keep(outputs_of(module, x))
        self._forward_ends()
        return Output(logits.unsqueeze(0), seen[0].unsqueeze(0) if len(seen) == 1 else None, batch)

    @contextlib.contextmanager
    def _in_mode(self, train: bool) -> Iterator[None]:
        if not train:
            self._first.module.eval()
        yield
        if not train:
            for part, training in self._modes.items():
                part.training = training

    def loss(self, output: Output) -> Tensor:
        """Return the task's loss of the client, ``[1]``."""
        if self._counting is not None:
            with self._context():
                return self._counting.loss(output)
        return self._first.loss_of(output.logits[0], output.batch.y[0]).unsqueeze(0)

    # The loop

    def fit(self, c: Clients, fit: Fit) -> Trace:
        """See :meth:`fedray.local.steppers.Stepper.fit`."""
        layout, first = self._task.layout, self._first
        self.begin(c, fit.seed)
        with contextlib.ExitStack() as entered:
            entered.enter_context(self._holding(fit.models))
            for replica in (first, *self._others):
                entered.enter_context(replica.moving(fit.moved))
            for replica in (first, *self._others):
                layout.write_integers(replica.module, self.row)
            total = torch.zeros((), dtype=torch.float64, device=first.device)
            # The loss of an example whose row is protected is its own, whatever the others have.
            counting = None if fit.noise is not None else self._counting
            counted = torch.zeros((), dtype=torch.int64, device=first.device)
            optimizer = fit.optimizer(first.moved)
            entries = layout.parameters if fit.only is None else fit.only
            if fit.kept is not None:
                fit.kept.enter(optimizer, first.moved, entries)
            trace = Trace(fit.schedule.count[0] * 0.0, fit.schedule.count, optimizer.param_groups[0], first.device)
            trace.taken = fit.schedule.taken
            self._early = self._steps_early(fit, optimizer)
            if self._early is not None:
                entered.enter_context(self._early.watching())
            for number, n in enumerate(fit.batches.active):
                batch = fit.batches.at(number, n)
                optimizer.zero_grad(set_to_none=True)
                if fit.hooked:
                    loss = self._hooked(c, fit, number, batch, optimizer, trace.lr)
                else:
                    loss = self._gradient(c, fit, number, batch)
                    self._descend(optimizer)
                if counting is None:
                    total += loss * int(batch.count[0])
                else:
                    here = counting.positions(batch)[0]
                    total += loss.double() * here
                    counted += here
            optimizer.zero_grad(set_to_none=True)
            if fit.kept is not None:
                fit.kept.leave(optimizer, first.moved, entries)
            layout.read_back(first.module, self.row)
        trace.total = total.reshape(1).cpu().numpy()
        trace.counted = None if counting is None else counted.reshape(1).cpu().numpy()
        return trace

    def _steps_early(self, fit: Fit, optimizer: torch.optim.Optimizer) -> EarlySteps | None:
        """Return the optimizer's steps within backward passes; None where all gradients are needed at once."""
        args, first = self._task.args, self._first
        apart = fit.hooked or fit.noise is not None or args.clip_grad_norm is not None or args.accumulate > 1
        shared = self._others or self._task.shard is not None or first.device.type != "cpu"
        if apart or shared or self._task.layout.trained < LARGE or not steps_apart(optimizer):
            return None
        return EarlySteps(optimizer, first.moved)

    @contextlib.contextmanager
    def _holding(self, params: Tensor) -> Iterator[None]:
        """Put another model ``[1, D]`` or ``[1, P]`` in the place of the row's for the length of the context."""
        place = self.row[: params.shape[1]]
        if params.data_ptr() == place.data_ptr():
            yield
            return
        saved = self.row.clone()
        place.copy_(params[0])
        try:
            yield
        finally:
            params[0].copy_(place)
            self.row.copy_(saved)

    def _hooked(
        self, c: Clients, fit: Fit, number: int, batch: Batch, optimizer: torch.optim.Optimizer, lr: float
    ) -> Tensor:
        """Take a step that the program looks into; returns its loss."""
        first = self._first
        leaf = self.row[: self._task.layout.trained].unsqueeze(0).detach().requires_grad_()
        step = fit.step(c, number, leaf, batch, lr)
        if fit.objective is None:
            loss = self._gradient(c, fit, number, batch)
            grad = first.gradient().unsqueeze(0)
        else:
            loss, grad = self._objective(fit.objective, step, leaf)
        if fit.gradient is not None:
            with torch.no_grad():
                check_in_place(fit.gradient(step, grad), grad, "gradient")
        first.set_gradient(grad[0])
        self._descend(optimizer)
        if fit.after is not None:
            with torch.no_grad():
                check_in_place(fit.after(step), step.params, "after")
        return loss

    def _gradient(self, c: Clients, fit: Fit, number: int, batch: Batch) -> Tensor:
        """Leave the gradients of the task's loss with the first replica; returns that loss."""
        if fit.noise is None:
            return self._backward(batch.x[0], batch.y[0], c.round, number)
        assert self._private is not None
        layout, first = self._task.layout, self._first
        if self._dropout is not None:
            self._dropout.at(c.round, number)
        entries = layout.parameters if fit.only is None else fit.only
        params = layout.split(self.row[: layout.trained].unsqueeze(0))
        with self.drawing():
            added = Beside.of(fit.added, fit.rows(1), layout, 1)
            loss, grads = self._private(fit.noise, params, {}, [e.name for e in entries], c.keys, batch, added)
        self._forward_ends()
        first.set_gradient(first.joined([grad[0] for grad in grads]))
        return loss[0]

    def _context(self) -> contextlib.AbstractContextManager[object]:
        return autocast(self._task.args.precision, self._first.device)

    def _objective(self, objective: Objective, step: Step, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a program's objective, and its gradient ``[1, D]``."""
        cut = self._cut(step.batch.y.shape[1])
        found = []
        for piece in cut:
            at = step if len(cut) == 1 else step.cut(piece)
            with self.drawing():
                look = self.look(step.number)
                losses = objective(at)
                check_objective(losses, 1)
                look.forward_ends()
                # The forward at the model itself runs the module, whose parameters are leaves of their own.
                grads = torch.autograd.grad(
                    losses.sum(), [leaf, *self._first.moved], allow_unused=True, materialize_grads=True
                )
                look.backward_ends()
            grad = self._first.joined(grads[1:]).unsqueeze(0).add_(grads[0])
            found.append((losses.detach()[0], grad, (piece.stop - piece.start) / step.batch.y.shape[1]))
        if len(found) == 1:
            return found[0][:2]
        return sum(loss * share for loss, _, share in found), sum(grad * share for _, grad, share in found)

    def _cut(self, rows: int) -> list[slice]:
        """Return the pieces of a batch that are done one after the other."""
        args = self._task.args
        return [slice(0, rows)] if args.accumulate == 1 else share_out(rows, args.pieces(rows))

    def _descend(self, optimizer: torch.optim.Optimizer) -> None:
        clip_module(self._first.moved, self._task.args.clip_grad_norm)
        optimizer.step()

    def _backward(self, x: Inputs, y: Tensor, round: int, number: int) -> Tensor:
        """Leave the gradients of a batch's mean loss with the first replica; returns that loss."""
        by = None if self._counting is None else self._counting.of.counts(y).sum()
        losses = [self._piece(x, y, piece, round, number, by) for piece in self._cut(len(x))]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _piece(self, x: Inputs, y: Tensor, piece: slice, round: int, number: int, by: Tensor | None) -> Tensor:
        """Add the gradients of a piece of a batch to those of the first replica; returns its part of the mean loss.

        ``by`` is the number of positions that count in the whole batch, if the loss counts those.

        A GPU works while the next one is told what to do, so that one thread keeps all of them busy.
        """
        rows = piece.stop - piece.start
        first, *shares = (
            slice(piece.start + share.start, piece.start + share.stop)
            for share in share_out(rows, 1 + len(self._others))
        )
        others = self._others[: len(shares)]
        for other in others:
            other.follow(self.row)
        losses = []
        for replica, share in zip((self._first, *others), (first, *shares), strict=True):
            if self._dropout is not None:
                self._dropout.at(round, number, share)
            weight = (share.stop - share.start) / len(x) if others or rows < len(x) else 1.0
            with recomputing(self._dropout):
                look = self.look(number)
                loss = replica.loss(x[share], y[share], weight, by)
                look.forward_ends()
                if self._dropout is not None:
                    self._dropout.forward_ends()
                if self._early is None:
                    loss.backward()
                else:
                    self._early.backward(loss)
                look.backward_ends()
            losses.append(loss.detach())
        if not others:
            return losses[0]
        self._first.add_gradients(others)
        return torch.stack([loss.to(self._first.device) for loss in losses]).sum()

    def _turn(self, step: Step) -> None:
        if self._dropout is not None:
            self._dropout.at(step.c.round, step.number, step.piece or slice(0, 1))

    def _forward_ends(self) -> None:
        if self._dropout is not None:
            self._dropout.forward_ends()
