"""One client at a time, in the user's module itself: for models that do not stack or do not gain from it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedray.core.draws import named
from fedray.core.hidden_state import HiddenState
from fedray.core.messages import Floats
from fedray.core.rng import integer
from fedray.data.columns.rows import Rows
from fedray.local.clipping import clip_module
from fedray.local.dropout import NamedDropout, has_dropout, recomputing
from fedray.local.replicas import Replica, share_out
from fedray.local.rules import LocalRun
from fedray.local.schedule import Schedule
from fedray.local.task import LocalTask


class SequentialStepper:
    """The training of one client: the module's tensors are views of one row, so any module and any optimizer works.

    On several devices the optimizer, the rule and the row are on the first; in each step the others get a copy of the
    row and a share of the batch, and give their gradients.  That equals one device up to rounding.

    What the model, the loss or the optimizer function remembers elsewhere is put back after each client.  Random draws
    other than dropout come from the process's generators, named by (seed, round, client).
    """

    def __init__(self, task: LocalTask, module: nn.Module, devices: Sequence[torch.device]) -> None:
        self._task = task
        self._first = Replica(task, module, devices[0])
        self._others = [Replica(task, task.model_fn(), device) for device in devices[1:]]
        self.row = self._first.row
        self._dropout = NamedDropout(task.seed) if has_dropout(module) else None

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

    def run(self, run: LocalRun, schedule: Schedule, rows: Rows, keys: Tensor, model: Tensor) -> Floats:
        """Train the single client of ``run`` (C = 1); arguments as for ``fedray.local.steppers.Stepper``.

        ``run.delta`` must be a view of ``self.row``.
        """
        task, layout, device = self._task, self._task.layout, self._first.device
        replicas = (self._first, *self._others)
        for replica in replicas:
            layout.write_integers(replica.module, self.row)
        total = torch.zeros((), dtype=torch.float64, device=device)
        client = int(keys[0])
        if self._dropout is not None:
            self._dropout.client = keys[0]
        devices = [replica.device for replica in replicas if replica.device.type == "cuda"]
        with contextlib.ExitStack() as client_alone:
            client_alone.enter_context(named(task.seed, "local", run.round, client, devices))
            for replica in replicas:
                client_alone.enter_context(replica.hidden.put_back(integer(task.seed, "local", run.round, client)))
            optimizer = task.optimizer_fn(list(self._first.trained))
            task.rate.enter(optimizer.param_groups, run.round)
            run.group = optimizer.param_groups[0]
            task.rule.start(run)
            for step in range(schedule.index.shape[1]):
                count = int(schedule.count[0, step])
                x, y = rows.take(schedule.index[:, step, :count])
                optimizer.zero_grad(set_to_none=True)
                loss = self._backward(x[0], y[0], run.round, step)
                if task.rule.changes_gradient:
                    grad = self._first.gradient().unsqueeze(0)
                    with torch.no_grad():
                        task.rule.gradient(run, grad)
                    self._first.set_gradient(grad[0])
                clip_module(self._first.trained, task.args.clip_grad_norm)
                optimizer.step()
                total += loss * count
            optimizer.zero_grad(set_to_none=True)
            layout.read_back(self._first.module, self.row)
        return total.reshape(1).cpu().numpy()

    def _backward(self, x: Tensor, y: Tensor, round: int, step: int) -> Tensor:
        """Leave the gradients of a batch's mean loss with the first replica; returns that loss.

        A GPU works while the next one is told what to do, so that one thread keeps all of them busy.
        """
        first, *shares = share_out(len(x), 1 + len(self._others))
        others = self._others[: len(shares)]
        for other in others:
            other.follow(self.row)
        losses = []
        for replica, share in zip((self._first, *others), (first, *shares), strict=True):
            if self._dropout is not None:
                self._dropout.at(round, step, share)
            weight = (share.stop - share.start) / len(x) if others else 1.0
            with recomputing(self._dropout):
                loss = replica.loss(x[share], y[share], weight)
                if self._dropout is not None:
                    self._dropout.forward_ends()
                loss.backward()
            losses.append(loss.detach())
        if not others:
            return losses[0]
        self._first.add_gradients(others)
        return torch.stack([loss.to(self._first.device) for loss in losses]).sum()
