"""C clients at once: vmap over their parameters, one optimizer over the matrix ``[C, D]``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedray.core.hidden_state import HiddenState
from fedray.core.losses import has_direct, per_example
from fedray.core.messages import Floats
from fedray.data.columns.rows import Rows
from fedray.local.batched import batched_forward
from fedray.local.clipping import clip_rows
from fedray.local.dropout import NamedDropout, has_dropout
from fedray.local.leading import LeadingRows
from fedray.local.modes import train_mode
from fedray.local.rules import LocalRun
from fedray.local.schedule import Schedule
from fedray.local.task import LocalTask, autocast

_NOTHING = contextlib.nullcontext()


class StackedStepper:
    """The training of a block's clients together.

    Clients stand in order of their number of steps, most first, so those still training are always the leading rows;
    the optimizer lets the others go.
    """

    def __init__(self, task: LocalTask, module: nn.Module, device: torch.device) -> None:
        self._task = task
        self._device = device
        # functional_call replaces every parameter: the module's own need no memory.  Buffers that are not saved stay.
        for parameter in module.parameters():
            parameter.data = torch.empty(0)
        self._template = train_mode(module).to(device)
        parts = {"model": self._template, "local.loss": task.loss_fn, "optimizer": task.optimizer_fn}
        self.hidden = HiddenState(parts, task.layout.tensors(self._template).values())
        self._dropout = NamedDropout(task.seed) if has_dropout(module) else None
        self._vmapped = vmap(self._output, in_dims=(0, 0, 0), randomness="error")
        # Autocast chooses types operation by operation, which a batched product of our own would bypass.
        self._batched = batched_forward(module) if task.args.precision != "bf16" else None

    @staticmethod
    def fits(task: LocalTask, devices: Sequence[torch.device]) -> str | None:
        """Return why not: what was decided before the run."""
        return None if task.stacking.stacked else task.stacking.reason

    @classmethod
    def of(cls, task: LocalTask, devices: Sequence[torch.device]) -> StackedStepper:
        """Make one on the first device, which suffices for what stacks."""
        return cls(task, task.model_fn(), devices[0])

    def locals(self, count: int) -> Tensor:
        """Return new memory, ``[C, P]``."""
        return torch.empty(count, self._task.layout.size, device=self._device)

    def _outputs(self, params: dict[str, Tensor], keys: Tensor, x: Tensor) -> Tensor:
        if self._batched is not None:
            return self._batched(params, x)
        # vmap knows the plain kernel of attention; the fused ones it would run client by client, with a warning.
        with sdpa_kernel(SDPBackend.MATH):
            outputs: Tensor = self._vmapped(params, keys, x)
            return outputs

    def _output(self, params: dict[str, Tensor], key: Tensor, x: Tensor) -> Tensor:
        if self._dropout is not None:
            self._dropout.client = key
        output: Tensor = functional_call(self._template, {**params, **self._rest}, (x,))
        return output

    def _loss(self, params: dict[str, Tensor], keys: Tensor, x: Tensor, y: Tensor, share: Tensor | None) -> Tensor:
        """Return the loss of each client on its batch, ``[A]``; an example has a ``share`` ``[A, B]``, padding 0."""
        with autocast(self._task.args.precision, self._device):
            output = self._outputs(params, keys, x)
            if share is None and not has_direct(self._task.loss_fn):
                losses: Tensor = vmap(self._task.loss_fn)(output, y)
                return losses
            values = per_example(self._task.loss_fn, output.flatten(0, 1), y.flatten(0, 1)).view(x.shape[:2])
        return values.mean(dim=1) if share is None else (values * share.to(values.dtype)).sum(dim=1)

    def run(self, run: LocalRun, schedule: Schedule, rows: Rows, keys: Tensor, model: Tensor) -> Floats:
        """Train the clients of ``run`` as :class:`fedray.local.steppers.Stepper` says it.

        What the model remembers elsewhere is put back.
        """
        with self.hidden.put_back():
            return self._run(run, schedule, rows, keys, model)

    def _run(self, run: LocalRun, schedule: Schedule, rows: Rows, keys: Tensor, model: Tensor) -> Floats:
        task, layout = self._task, self._task.layout
        self._rest = layout.unpack(model, layout.rest)
        optimizer = LeadingRows(task.optimizer_fn, run.params, layout, joined=task.rule.changes_gradient)
        run.group = optimizer.group
        task.rate.enter([optimizer.group], run.round)
        task.rule.start(run)
        active, widths = (schedule.count > 0).sum(axis=0), schedule.count.max(axis=0)
        padded = self._shares(schedule)
        losses = torch.zeros(len(active), len(run.params), device=self._device)
        training = run
        for step, (n, width) in enumerate(zip(active.tolist(), widths.tolist(), strict=True)):
            if n < len(optimizer):
                optimizer.keep(n)
            x, y = rows.take(schedule.index[:n, step, :width])
            share = padded[step, :n, :width] if schedule.count[:n, step].min() < width else None
            if self._dropout is not None:
                self._dropout.at(run.round, step)
            with self._dropout or _NOTHING:
                loss = self._loss(optimizer.leaves, keys[:n], x, y, share)
                if self._dropout is not None:
                    self._dropout.forward_ends()
                grads = torch.autograd.grad(loss.sum(), list(optimizer.leaves.values()), materialize_grads=True)
            losses[step, :n] = loss.detach()
            if not optimizer.apart:
                grads = (torch.cat([grad.flatten(1) for grad in grads], dim=1),)
                if n < len(training.params):
                    training = run.leading(n)
                with torch.no_grad():
                    task.rule.gradient(training, grads[0])
            optimizer.step(clip_rows(grads, task.args.clip_grad_norm))
        total = np.zeros(len(run.params))
        for mean, count in zip(losses.cpu().numpy(), schedule.count.T.astype(np.float32), strict=True):
            total += mean * count
        return total

    def _shares(self, schedule: Schedule) -> Tensor:
        """Return each example's share in the loss of its batch, ``[S, C, B]``, 0 for padding."""
        count = schedule.count.T[:, :, None]
        shares = (np.arange(schedule.index.shape[2]) < count) / count.clip(min=1)
        return torch.from_numpy(shares).to(self._device, torch.float32)
