"""C clients at once: vmap over their parameters, one optimizer over the matrix ``[C, D]``."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedray.core.hidden_state import HiddenState
from fedray.core.losses import has_direct, per_example
from fedray.core.messages import Floats, Ints
from fedray.data.columns.rows import Rows
from fedray.local.batched import batched_forward
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

    def _loss(self, params: dict[str, Tensor], keys: Tensor, x: Tensor, y: Tensor, count: Ints) -> Tensor:
        """Return the loss of each client on its batch, ``[A]``.

        Row ``a`` has ``count[a]`` examples, the rest is padding.
        """
        with autocast(self._task.args.precision, self._device):
            output = self._outputs(params, keys, x)
            if int(count.min()) == x.shape[1] and not has_direct(self._task.loss_fn):
                losses: Tensor = vmap(self._task.loss_fn)(output, y)
                return losses
            values = per_example(self._task.loss_fn, output.flatten(0, 1), y.flatten(0, 1)).view(x.shape[:2])
        if int(count.min()) == x.shape[1]:
            return values.mean(dim=1)
        share = (np.arange(x.shape[1]) < count[:, None]) / count[:, None]
        return (values * torch.from_numpy(share).to(self._device, values.dtype)).sum(dim=1)

    def run(self, run: LocalRun, schedule: Schedule, rows: Rows, keys: Tensor, model: Tensor) -> Floats:
        """Train the clients of ``run``; see :meth:`_run`.  What the model remembers elsewhere is put back."""
        with self.hidden.put_back():
            return self._run(run, schedule, rows, keys, model)

    def _run(self, run: LocalRun, schedule: Schedule, rows: Rows, keys: Tensor, model: Tensor) -> Floats:
        """Train ``run.params`` ``[C, D]`` in place.

        Args:
            run: the live state.
            schedule: the examples of each step.
            rows: the block's examples.
            keys: the clients' keys, int64 ``[C]``.
            model: the global vector ``[P]``.

        Returns:
            The sum of each client's example losses over its steps, ``[C]``.
        """
        task, layout = self._task, self._task.layout
        self._rest = layout.unpack(model, layout.rest)
        optimizer = LeadingRows(task.optimizer_fn, run.params)
        run.group = optimizer.group
        task.rule.start(run)
        active = (schedule.count > 0).sum(axis=0)
        losses = torch.zeros(len(run.params), dtype=torch.float64, device=self._device)
        training = run
        for step, n in enumerate(active.tolist()):
            if n < len(training.params):
                training = run.leading(n)
                optimizer.keep(n)
            count = schedule.count[:n, step]
            width = int(count.max())
            x, y = rows.take(schedule.index[:n, step, :width])
            if self._dropout is not None:
                self._dropout.at(run.round, step)
            leaf = optimizer.leaf()
            views = layout.split(leaf)
            with self._dropout or _NOTHING:
                loss = self._loss(views, keys[:n], x, y, count)
                if self._dropout is not None:
                    self._dropout.forward_ends()
                (grad,) = torch.autograd.grad(loss.sum(), leaf)
            losses[:n] += loss.detach() * torch.from_numpy(count).to(self._device)
            with torch.no_grad():
                task.rule.gradient(training, grad)
            optimizer.step(grad)
        return losses.cpu().numpy()
