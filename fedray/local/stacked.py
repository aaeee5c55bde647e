"""C clients at once: vmap over their parameters, one optimizer over the matrix ``[C, D]``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedray.core.draws import NO_LOOK, Look
from fedray.core.hidden_state import HiddenState
from fedray.core.losses import has_direct, per_example
from fedray.core.regions import head_of
from fedray.data.columns.inputs import Inputs, arguments, plain
from fedray.local.batched import batched_forward
from fedray.local.batches import Batch, Output, Trace, share_out
from fedray.local.clients import Clients
from fedray.local.clipping import clip_rows
from fedray.local.counting import counting_of
from fedray.local.dropout import NamedDropout, has_dropout
from fedray.local.features import watched
from fedray.local.fixed_layers import without_fixed
from fedray.local.gradients import gradient_of
from fedray.local.guards import check_in_place
from fedray.local.known_outputs import KnownOutputs
from fedray.local.leading import LeadingRows
from fedray.local.modes import train_mode
from fedray.local.moments import KeptRows
from fedray.local.per_example import Beside, ClippedGradients
from fedray.local.step import Block, Fit, Step
from fedray.local.task import LocalTask, autocast
from fedray.models.shared import placed, shared_of
from fedray.tasks import logits_of

_NOTHING = contextlib.nullcontext()
_WHOLE = slice(0, 1)

Tensors = dict[str, Tensor]
Plain = Tensor | dict[str, Tensor]


class StackedStepper:
    """The training of a block's clients together.

    Clients stand in order of their number of steps, most first, so those still training are always the leading rows;
    the optimizer lets the others go.
    """

    def __init__(self, task: LocalTask, module: nn.Module, device: torch.device) -> None:
        self._task = task
        self._device = device
        # Every step brings these parameters: the module's own need no memory.  What is frozen stays.
        tensors = task.layout.tensors(module)
        for entry in task.layout.parameters:
            tensors[entry.name].data = self._place(tensors[entry.name])
        self._template = placed(train_mode(module), device)
        self._modes = {part: part.training for part in module.modules()}
        self._head = head_of(module)
        parts = {
            "model": self._template,
            "local.loss": task.loss_fn,
            "optimizer": task.optimizer_fn,
            "algorithm": task.program,
        }
        trained = task.layout.tensors(self._template).values()
        self.hidden = HiddenState(parts, [*trained, *shared_of(self._template)])
        self._dropout = NamedDropout(task.seed) if has_dropout(module) else None
        self._vmapped = vmap(self._output, in_dims=(0, 0, 0), randomness="error")
        self._watched = vmap(self._output_and_features, in_dims=(0, 0, 0), randomness="error")
        # Autocast chooses types operation by operation, which a batched product of our own would bypass.
        self._batched = (
            batched_forward(module) if task.args.precision != "bf16" and not task.data.spec.columns else None
        )
        self._layers = self._batched  # of the fit that is under way
        self._known: dict[str, Tensor] | None = None  # of its step, where the next fit may use them
        self._left: KnownOutputs | None = None  # by the fit before
        self._counting = counting_of(task.loss_fn)
        self._private = None
        if task.private is not None:
            clipped = ClippedGradients(self._template, task.loss_fn, self._batched, self._dropout, self._context)
            self._private = task.private.gradients(clipped)
        last = list(module.modules())[-1]
        self._ends_in_head = self._batched is not None and last is module.get_submodule(self._head)

    def _place(self, tensor: Tensor) -> Tensor:
        """Return what stands in the module in the place of a parameter: nothing, as functional_call replaces it."""
        return torch.empty(0)

    @staticmethod
    def fits(task: LocalTask, devices: Sequence[torch.device]) -> str | None:
        """Return why not: what was decided before the run."""
        if task.stacking.lanes is not None:
            return "its clients step in lanes"
        return None if task.stacking.stacked else task.stacking.reason

    @classmethod
    def of(cls, task: LocalTask, devices: Sequence[torch.device]) -> StackedStepper:
        """Make one on the first device, which suffices for what stacks."""
        return cls(task, task.model_fn(), devices[0])

    def locals(self, count: int) -> Tensor:
        """Return new memory, ``[C, P]``."""
        return torch.empty(count, self._task.layout.size, device=self._device)

    @contextlib.contextmanager
    def alone(self, c: Clients) -> Iterator[None]:
        """Put back what the model, the loss or the optimizer function remember elsewhere."""
        layout = self._task.layout
        # Of its own, as a forward may change them.
        self._rest = {name: rest.clone() for name, rest in layout.unpack(c.down["model"], layout.rest).items()}
        try:
            with self.hidden.put_back():
                yield
        finally:
            self._left = None

    @property
    def draws(self) -> bool:
        """True where the module has dropout, see :class:`fedray.local.step.Steps`."""
        return self._dropout is not None

    def begin(self, c: Block, seed: int) -> None:
        """See :meth:`fedray.local.step.Steps.begin`."""
        if self._dropout is not None:
            self._dropout.name(seed)

    def drawing(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which dropout draws by name."""
        return self._dropout or _NOTHING

    def look(self, number: int) -> Look:
        """Return no look: what draws by no name does not stack."""
        return NO_LOOK

    # The module

    def _output(self, params: Tensors, key: Tensor, x: Plain) -> Tensor:
        if self._dropout is not None:
            self._dropout.client = key
        return logits_of(functional_call(self._template, {**self._rest, **params}, *arguments(x)))

    def _output_and_features(self, params: Tensors, key: Tensor, x: Plain) -> tuple[Tensor, Tensor]:
        with watched(self._template, self._head) as seen:
            output = self._output(params, key, x)
        # vmap returns tensors alone: no features are those of an empty shape.
        return output, seen[0] if len(seen) == 1 else output.new_zeros(len(output), 0)

    def _outputs(self, params: Tensors, keys: Tensor, x: Inputs) -> Tensor:
        if self._layers is not None:
            return self._layers(params, x) if self._known is None else self._layers.knowing(params, x, self._known)
        # vmap knows the plain kernel of attention; the fused ones it would run client by client, with a warning.
        with sdpa_kernel(SDPBackend.MATH):
            outputs: Tensor = self._vmapped(params, keys, plain(x))
            return outputs

    def _with_features(self, params: Tensors, keys: Tensor, x: Inputs) -> tuple[Tensor, Tensor]:
        if self._batched is not None and self._batched.ends_in_head and self._ends_in_head:
            return self._batched.with_features(params, x)
        with sdpa_kernel(SDPBackend.MATH):
            found: tuple[Tensor, Tensor] = self._watched(params, keys, plain(x))
            return found

    def forward(self, step: Step, params: Tensor | None, batch: Batch, train: bool) -> Output:
        """See :meth:`fedray.local.steppers.Stepper.forward`."""
        layout = self._task.layout
        matrix = (step.params if params is None else params).expand(len(batch.x), -1)
        tensors = layout.split(matrix[:, : layout.trained])
        if params is None and step.attached and step.moved is not None:
            tensors = {name: t if name in step.moved else t.detach() for name, t in tensors.items()}
        if matrix.shape[1] > layout.trained:
            tensors |= layout.buffers_of(matrix)
        self._turn(step)
        with autocast(self._task.args.precision, self._device), self.drawing(), self._in_mode(train):
            keys = step.c.keys[step.rows][: len(batch.x)]
            logits, features = self._with_features(tensors, keys, batch.x)
        self._forward_ends()
        return Output(logits, features if features.shape[-1] else None, batch)

    @contextlib.contextmanager
    def _in_mode(self, train: bool) -> Iterator[None]:
        if not train:
            self._template.eval()
        yield
        if not train:
            for part, training in self._modes.items():
                part.training = training

    def loss(self, output: Output) -> Tensor:
        """Return the task's loss of each client, ``[A]``."""
        loss_fn, batch, logits = self._task.loss_fn, output.batch, output.logits
        with autocast(self._task.args.precision, self._device):
            if self._counting is not None:
                return self._counting.loss(output)
            if batch.share is None and not has_direct(loss_fn):
                losses: Tensor = vmap(loss_fn)(logits, batch.y)
                return losses
            values = per_example(loss_fn, logits.flatten(0, 1), batch.y.flatten(0, 1)).view(batch.y.shape[:2])
        return batch.mean(values)

    # The loop

    def fit(self, c: Clients, fit: Fit) -> Trace:
        """See :meth:`fedray.local.steppers.Stepper.fit`."""
        count, batches = fit.schedule.count, fit.batches
        params = fit.models[:, : self._task.layout.trained]
        layout, kept = self._task.layout, None
        if fit.kept is not None:
            optimizer: LeadingRows = (kept := KeptRows(fit.optimizer, params, layout, fit.only, fit.kept))
        else:
            optimizer = LeadingRows(fit.optimizer, params, layout, fit.hooked, fit.only)
        self.begin(c, fit.seed)
        losses = torch.zeros(len(batches.active), len(c), device=self._device)
        # The loss of an example whose row is protected is its own, whatever the others have.
        counting = None if fit.noise is not None else self._counting
        counted = None if counting is None else torch.zeros_like(losses, dtype=torch.int64)
        trace = Trace(np.zeros(len(c)), count, optimizer.group, self._device, fit.schedule.taken)
        pieces = None if self._task.args.accumulate == 1 else self._task.args.pieces
        self._layers = self._batched
        if self._batched is not None and fit.noise is None and not fit.hooked:
            shorter = without_fixed(fit, self._batched, optimizer.leaves, self._device)
            batches, self._layers = (batches, self._batched) if shorter is None else shorter
        before, self._left, self._known, batch = self._left, None, None, None
        # Of a fit of all tensors no layer's outputs are as they were.
        some = self._batched is not None and self._layers is self._batched and not self._batched.writes
        leaves = some and fit.only is not None and fit.noise is None and not fit.hooked and pieces is None
        for number, n in enumerate(batches.active):
            if n < len(optimizer):
                optimizer.keep(n)
            batch = batches.at(number, n)
            self._known = None if not leaves else before.of(fit, batch) if before is not None and not number else {}
            step = fit.step(c, number, optimizer.whole, batch, trace.lr) if fit.hooked else None
            with self.drawing():
                cut = share_out(batch.y.shape[1], pieces(batch.y.shape[1])) if pieces else ()
                if fit.noise is not None:
                    loss, grads = self._noised(c, fit, number, batch, optimizer)
                elif len(cut) < 2:
                    loss, grads = self._descent(c, fit, number, batch, step, optimizer)
                else:
                    loss, grads = self._accumulated(c, fit, number, batch, step, optimizer, cut)
            losses[number, :n] = loss.detach()
            if counting is not None and counted is not None:
                counted[number, :n] = counting.positions(batch)
            if step is not None and fit.gradient is not None:
                with torch.no_grad():
                    check_in_place(fit.gradient(step, grads[0]), grads[0], "gradient")
            moving = grads if optimizer.apart else optimizer.columns(grads[0])
            optimizer.step(clip_rows(moving, self._task.args.clip_grad_norm))
            if step is not None and fit.after is not None:
                with torch.no_grad():
                    check_in_place(fit.after(step), step.params, "after")
        if self._known is not None:
            self._left, self._known = KnownOutputs.after(fit, batch, self._known), None
        if kept is not None:
            kept.leave()
        if counted is not None:
            by = counted.cpu().numpy()
            trace.total, trace.counted = (losses.cpu().double().numpy() * by).sum(axis=0), by.sum(axis=0)
            return trace
        for mean, examples in zip(losses.cpu().numpy(), count.T.astype(np.float32), strict=True):
            trace.total += mean * examples
        return trace

    def _descent(
        self,
        c: Clients,
        fit: Fit,
        number: int,
        batch: Batch,
        step: Step | None,
        optimizer: LeadingRows,
        piece: slice | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss ``[A]`` of a batch, or of a ``piece`` of a step's, and its gradients for the optimizer."""
        if fit.objective is not None:
            assert step is not None
            loss = fit.objective(step)
            return loss, (gradient_of(loss, optimizer.whole),)
        if self._dropout is not None:
            self._dropout.at(c.round, number, piece or _WHOLE)
        with autocast(self._task.args.precision, self._device):
            logits = self._outputs(optimizer.leaves, c.keys[fit.rows(len(optimizer))], batch.x)
        loss = self.loss(Output(logits, None, batch))
        self._forward_ends()
        grads = self._gradients(loss.sum(), optimizer.moved)
        return loss, grads if optimizer.apart else (optimizer.joined(grads),)

    def _gradients(self, loss: Tensor, moved: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradients of leaves, zero where the loss does not use one."""
        return torch.autograd.grad(loss, moved, materialize_grads=True)

    def _noised(
        self, c: Clients, fit: Fit, number: int, batch: Batch, optimizer: LeadingRows
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what :meth:`_descent` does, of gradients that protect the rows."""
        assert self._private is not None
        assert fit.noise is not None
        if self._dropout is not None:
            self._dropout.at(c.round, number)
        rows = fit.rows(len(optimizer))
        added = Beside.of(fit.added, rows, self._task.layout, len(optimizer))
        names = optimizer.names
        loss, grads = self._private(fit.noise, optimizer.leaves, self._rest, names, c.keys[rows], batch, added)
        self._forward_ends()
        return loss, tuple(grads) if optimizer.apart else (optimizer.joined(grads),)

    def _context(self) -> contextlib.AbstractContextManager[object]:
        return autocast(self._task.args.precision, self._device)

    def _accumulated(
        self,
        c: Clients,
        fit: Fit,
        number: int,
        batch: Batch,
        step: Step | None,
        optimizer: LeadingRows,
        cut: Sequence[slice],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what :meth:`_descent` does, one piece of the batch after the other: means over the whole."""
        total = torch.zeros(len(batch.x), device=self._device)
        sums: list[Tensor] = []
        for piece in cut:
            part = batch.cut(piece)
            at = None if step is None else step.cut(piece)
            loss, grads = self._descent(c, fit, number, part, at, optimizer, piece)
            weight = part.weight(batch)
            total += loss.detach() * weight
            weighed = [grad * weight.view(-1, *[1] * (grad.dim() - 1)) for grad in grads]
            sums = weighed if not sums else [sum_.add_(grad) for sum_, grad in zip(sums, weighed, strict=True)]
        return total, tuple(sums)

    def _turn(self, step: Step) -> None:
        if self._dropout is not None:
            self._dropout.at(step.c.round, step.number, step.piece or _WHOLE)

    def _forward_ends(self) -> None:
        if self._dropout is not None:
            self._dropout.forward_ends()
