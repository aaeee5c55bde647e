"""The one local training loop: from a global model and some clients to their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedray.local.rules import LocalRun
from fedray.local.schedule import Schedule
from fedray.local.sequential import SequentialStepper
from fedray.local.stacked import StackedStepper
from fedray.local.task import LocalTask
from fedray.messages import BlockUpdate, Broadcast, Ints, Parts


class Trainer:
    """Trains clients of one task.

    Args:
        task: what to train.
        devices: where; the first holds what goes in and comes out, the others help where ``task.sharing`` lets them.
    """

    def __init__(self, task: LocalTask, devices: Sequence[torch.device]) -> None:
        self.task = task
        self.device = devices[0]
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = task.precision == "tf32"
        self._stepper = (
            StackedStepper(task, task.model_fn(), self.device)
            if task.stacking.stacked
            else SequentialStepper(task, task.model_fn(), devices[: task.sharing.devices])
        )

    def train(self, clients: Ints, down: Broadcast, state: Parts, own_buffers: Mapping[int, Tensor]) -> BlockUpdate:
        """Local training of C clients from the broadcast model.

        Args:
            clients: client indices ``[C]``, most local steps first; C = 1 for a sequential task.
            down: the round's broadcast, on ``self.device``.
            state: per-client state of the rule, each ``[C, k]``; the result holds the new state.
            own_buffers: with ``buffers: local``, the buffers ``[P - D]`` of clients that have some.

        Returns:
            The update; its tensors are only valid until the next call.

        Raises:
            Exception: whatever the user's model, loss, optimizer or data raises.
        """
        task, layout = self.task, self.task.layout
        sizes, keys = task.data.sizes[clients], task.data.keys(clients)
        schedule = Schedule.draw(task.args, sizes, keys, task.seed, down.round)
        model = down.parts["model"]
        run = self._open(clients, down, state, schedule)
        rows = task.data.rows(clients, self.device)
        keys_tensor = torch.from_numpy(keys).to(self.device)
        if isinstance(self._stepper, SequentialStepper):
            self._stepper.row.copy_(model)
            if own_buffers:
                self._stepper.row[layout.trained :] = own_buffers[int(clients[0])]
        loss = self._stepper.run(run, schedule, rows, keys_tensor, model)
        if task.buffers == "local" and layout.rest:
            run.state["buffers"] = run.delta[:, layout.trained :] + model[layout.trained :]
        if task.buffers != "mean":
            run.delta[:, layout.trained :] = 0.0
        with torch.no_grad():
            task.rule.finish(run)
        seen = schedule.count.sum(axis=1)
        return BlockUpdate(
            round=down.round,
            clients=clients,
            parts={"delta": run.delta, **run.parts},
            state=run.state,
            weight=sizes.astype("float64"),
            loss=loss / seen.clip(min=1),
            examples=seen,
        )

    def _open(self, clients: Ints, down: Broadcast, state: Parts, schedule: Schedule) -> LocalRun:
        layout = self.task.layout
        model = down.parts["model"]
        anchor = model[: layout.trained]
        if isinstance(self._stepper, SequentialStepper):
            delta = self._stepper.row.unsqueeze(0)
            params = delta[:, : layout.trained]
        else:
            params = anchor.expand(len(clients), -1).clone()
            delta = torch.empty(len(clients), layout.size, device=self.device)
        steps = torch.from_numpy((schedule.count > 0).sum(axis=1, keepdims=True)).to(self.device, torch.float32)
        return LocalRun(down.round, clients, anchor, params, down.parts, state, steps, {}, delta, {})
