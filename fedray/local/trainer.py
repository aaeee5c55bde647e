"""The one local training loop: from a global model and some clients to their updates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedray.core.hidden_state import HiddenState
from fedray.core.messages import DELTA, STATISTICS, BlockUpdate, Broadcast, Ints, Parts
from fedray.local.rules import LocalRun
from fedray.local.schedule import Schedule
from fedray.local.steppers import stepper_for
from fedray.local.task import LocalTask


class Trainer:
    """The local training of clients of one task.

    Args:
        task: the local training problem.
        devices: the first holds what goes in and comes out, the others help where ``task.sharing`` lets them.
    """

    def __init__(self, task: LocalTask, devices: Sequence[torch.device]) -> None:
        self.task = task
        self.device = devices[0]
        self._stepper = stepper_for(task, devices)

    def train(self, clients: Ints, down: Broadcast, state: Parts, buffers: Tensor | None = None) -> BlockUpdate:
        """Train C clients locally from the broadcast model.

        Args:
            clients: client indices ``[C]``, most local steps first; C = 1 for a sequential task.
            down: the round's broadcast, on ``self.device``.
            state: per-client state of the rule, each ``[C, k]``; the result holds the new state.
            buffers: the start of the clients' frozen parameters and buffers, ``[C, P - D]``, if not the broadcast one.

        Returns:
            The update; its tensors are only valid until the next call.

        Raises:
            Exception: whatever the user's model, loss, optimizer or data raises.
        """
        task, layout = self.task, self.task.layout
        sizes, keys = task.data.sizes[clients], task.data.keys(clients)
        schedule = Schedule.draw(task.args, sizes, keys, task.seed, down.round)
        model = down.parts["model"]
        local = self._stepper.locals(len(clients)).copy_(model)
        rest, given = local[:, layout.trained :], model[layout.trained :]
        if buffers is not None:
            rest.copy_(buffers)
            given = given if task.args.buffers == "local" else buffers
        steps = torch.from_numpy((schedule.count > 0).sum(axis=1, keepdims=True)).to(self.device, torch.float32)
        run = LocalRun(
            round=down.round,
            clients=clients,
            anchor=model[: layout.trained],
            params=local[:, : layout.trained],
            down=down.parts,
            state=state,
            steps=steps,
            delta=local,
        )
        rows = task.data.rows(clients, self.device)
        loss = self._stepper.run(run, schedule, rows, torch.from_numpy(keys).to(self.device), model)
        if task.args.buffers == "local" and layout.rest:
            run.state["buffers"] = rest.clone()
        with torch.no_grad():
            run.params.sub_(run.anchor)
            if layout.rest and (task.args.buffers == "mean" or task.statistics):
                stays = rest == given
                # Infinity, as in a mask, less itself is not a number.
                rest.sub_(given).masked_fill_(stays, 0.0)
            if task.args.buffers != "mean":
                if task.statistics:
                    run.parts[STATISTICS] = rest[:, -layout.buffers :].clone()
                rest.zero_()
            task.rule.finish(run)
        sent = layout.spans if task.args.buffers == "mean" else {DELTA: layout.spans[DELTA]}
        parts = {name: run.delta[:, span] for name, span in sent.items()}
        seen = schedule.count.sum(axis=1)
        return BlockUpdate(
            round=down.round,
            clients=clients,
            parts={**parts, **run.parts},
            state=run.state,
            weight=sizes.astype("float64"),
            loss=loss / seen.clip(min=1),
            examples=seen,
        )

    @property
    def hidden(self) -> HiddenState:
        """The hidden state of model, loss and optimizer function: what they remember elsewhere."""
        return self._stepper.hidden
