"""The one local training loop: from a global model and some clients to their updates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedray.core.hidden_state import HiddenState
from fedray.core.messages import DELTA, STATISTICS, BlockUpdate, Broadcast, Ints, Parts
from fedray.local.clients import Clients
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

    def train(
        self,
        clients: Ints,
        down: Broadcast,
        state: Parts,
        buffers: Tensor | None = None,
        known: Tensor | None = None,
    ) -> BlockUpdate:
        """Train C clients locally from the broadcast model.

        Args:
            clients: client indices ``[C]``, most local steps first; C = 1 for a sequential task.
            down: the round's broadcast, on ``self.device``.
            state: per-client state of the program, each ``[C, k]``; the result holds the new state.
            buffers: the start of the clients' frozen parameters and buffers, ``[C, P - D]``, if not the broadcast one.
            known: True for the clients that have a state, ``[C]``; default: all.

        Returns:
            The update; its tensors are only valid until the next call.

        Raises:
            Exception: whatever the user's model, loss, optimizer or data raises.
        """
        task, layout, model = self.task, self.task.layout, down.parts["model"]
        local = self._stepper.locals(len(clients)).copy_(model)
        rest, given = local[:, layout.trained :], model[layout.trained :]
        if buffers is not None:
            rest.copy_(buffers)
            given = given if task.args.buffers == "local" else buffers
        if known is None:
            known = torch.ones(len(clients), dtype=torch.bool, device=self.device)
        rows = task.data.rows(clients, self.device)
        c = Clients(task, self._stepper, down.round, clients, down.parts, state, known, local, rows)
        with self._stepper.alone(c):
            if task.program.state and not known.all():
                for name, value in task.program.initial_state(c).items():
                    c.state[name] = torch.where(known[:, None], c.state[name], value)
            task.program.client(c)
        if task.args.buffers == "local" and layout.rest:
            c.state["buffers"] = rest.clone()
        with torch.no_grad():
            if (sent := c.sent.pop(DELTA, None)) is not None:
                c.params.copy_(sent)
            else:
                c.params.sub_(c.anchor)
            if layout.rest and (task.args.buffers == "mean" or task.statistics):
                stays = rest == given
                # Infinity, as in a mask, less itself is not a number.
                rest.sub_(given).masked_fill_(stays, 0.0)
            if task.args.buffers != "mean":
                if task.statistics:
                    c.sent[STATISTICS] = rest[:, -layout.buffers :].clone()
                rest.zero_()
        spans = layout.spans if task.args.buffers == "mean" else {DELTA: layout.spans[DELTA]}
        total = sum((trace.total for trace in c.traces), np.zeros(len(clients)))
        seen = sum((trace.count.sum(axis=1) for trace in c.traces), np.zeros(len(clients), dtype=np.int64))
        return BlockUpdate(
            round=down.round,
            clients=clients,
            parts={name: local[:, span] for name, span in spans.items()} | c.sent,
            state=c.state,
            weight=c.counts.astype("float64"),
            loss=total / seen.clip(min=1),
            examples=seen,
        )

    @property
    def hidden(self) -> HiddenState:
        """The hidden state of model, loss and optimizer function: what they remember elsewhere."""
        return self._stepper.hidden
