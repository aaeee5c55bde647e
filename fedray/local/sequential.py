"""One client at a time, in the user's module itself: for models that do not stack or do not gain from it."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from fedray.data.federated import Rows
from fedray.local.dropout import NamedDropout, has_dropout
from fedray.local.rules import LocalRun
from fedray.local.schedule import Schedule
from fedray.local.task import LocalTask, autocast
from fedray.messages import Floats
from fedray.rng import integer


class SequentialStepper:
    """Trains one client: the module's tensors are views of one row, so any module and any optimizer works.

    Random draws of the module other than dropout come from torch's generators, seeded by (seed, round, client).
    """

    def __init__(self, task: LocalTask, module: nn.Module, device: torch.device) -> None:
        self._task = task
        self._device = device
        self.row = task.layout.pack(dict(module.state_dict())).to(device)
        self._module = module.to(device).train()
        task.layout.attach(self._module, self.row)
        self._trained = [p for p in self._module.parameters() if p.requires_grad]
        self._dropout = NamedDropout(task.seed) if has_dropout(module) else None

    def run(self, run: LocalRun, schedule: Schedule, rows: Rows, keys: Tensor, model: Tensor) -> Floats:
        """Train the single client of ``run`` (C = 1); arguments as for ``StackedStepper.run``.

        ``self.row`` must hold the client's starting point; afterwards it holds the update, and ``run.delta`` is a
        view of it.
        """
        task, layout = self._task, self._task.layout
        layout.write_integers(self._module, self.row)
        optimizer = task.optimizer_fn(list(self._trained))
        run.group = optimizer.param_groups[0]
        task.rule.start(run)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        client = int(keys[0])
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._dropout or contextlib.nullcontext():
            torch.manual_seed(  # noqa: TID251 - inside fork_rng, for draws that cannot be named one by one
                integer(task.seed, "local", run.round, client)
            )
            for step in range(schedule.index.shape[1]):
                count = int(schedule.count[0, step])
                x, y = rows.take(schedule.index[:, step, :count])
                if self._dropout is not None:
                    self._dropout.at(run.round, step)
                    self._dropout.client = keys[0]
                optimizer.zero_grad(set_to_none=True)
                with autocast(task.precision, self._device):
                    loss = task.loss_fn(self._module(x[0]), y[0])
                loss.backward()
                if task.rule.changes_gradient:
                    self._apply_rule(run)
                optimizer.step()
                total += loss.detach() * count
        optimizer.zero_grad(set_to_none=True)
        layout.read_back(self._module, self.row)
        self.row.sub_(model)
        return total.reshape(1).cpu().numpy()

    def _apply_rule(self, run: LocalRun) -> None:
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._trained]
        grad = torch.cat([piece.reshape(-1) for piece in pieces]).unsqueeze(0)
        with torch.no_grad():
            self._task.rule.gradient(run, grad)
        for parameter, piece in zip(self._trained, grad[0].split([p.numel() for p in self._trained]), strict=True):
            parameter.grad = piece.view_as(parameter)
