"""The one local training loop: from a global model and some clients to their updates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from fedray.core.fields import Field
from fedray.core.hidden_state import HiddenState
from fedray.core.messages import (
    BUFFERS,
    DELTA,
    OPTIMIZER,
    PERSONAL,
    SENT,
    STATISTICS,
    BlockUpdate,
    Broadcast,
    Ints,
    Parts,
)
from fedray.local.clients import Clients
from fedray.local.guards import (
    call_hook,
    check_kept,
    check_sent,
    check_state,
    check_survey,
    check_weight,
    first_state,
    read_only,
)
from fedray.local.steppers import MakeStepper, stepper_for
from fedray.local.task import LocalTask

_SEND = "c.send(name, values) sends numbers, whose mean is total[name] in step, which may return it"


class Trainer:
    """The local training of clients of one task.

    Args:
        task: the local training problem.
        devices: the first holds what goes in and comes out, the others help where ``task.sharing`` lets them.
        make: makes the stepper.
        subtracted: the model that clients start from is subtracted from theirs; False: where one client trains on the
            CPU, it may be left to whoever takes the update, as its ``start``.
        lends: the state that is a part of the models may lie in their memory, until the next call; False: in its own.

    Attributes:
        stepper: takes the steps.
    """

    def __init__(
        self,
        task: LocalTask,
        devices: Sequence[torch.device],
        make: MakeStepper = stepper_for,
        subtracted: bool = True,
        lends: bool = False,
    ) -> None:
        self.task = task
        self.device = devices[0]
        self._subtracted = subtracted or self.device.type != "cpu"
        self._lends = lends
        self.stepper = make(task, devices)

    @contextlib.contextmanager
    def block(
        self,
        clients: Ints,
        down: Broadcast,
        state: Parts,
        buffers: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Iterator[Clients]:
        """Return the context in which programs of C clients run; arguments and errors are those of :meth:`train`.

        It gives the block: its models are the broadcast one, with what is a client's own, and newcomers have their
        first state.  Nothing that code of the user's remembers leaves the context.
        """
        task, layout = self.task, self.task.layout
        local = _filled(self.stepper.locals(len(clients)), down.parts["model"])
        if buffers is not None:
            local[:, layout.trained :].copy_(buffers)
        if known is None:
            known = torch.ones(len(clients), dtype=torch.bool, device=self.device)
        newcomers = None if bool(known.all()) else ~known
        home = None
        if layout.personal:
            home = state.pop(PERSONAL)
            if newcomers is not None:
                same = down.parts["model"] if buffers is None else local[newcomers]
                _put(home, newcomers, layout.personal_of(same))
            layout.put_personal(local, home)
        kept = None if task.moments is None else state.pop(OPTIMIZER, None)
        for name in task.profile.apart:
            state.pop(SENT + name, None)  # the server's
        rows = task.data.rows(clients, self.device)
        sent = MappingProxyType(down.parts)
        c = Clients(task, self.stepper, down.round, clients, sent, state, known, local, rows, home, kept, key=down.key)
        with self.stepper.alone(c), read_only(c.down):
            if newcomers is not None:
                for name, value in task.program.initial_state(c).items():
                    first = first_state(name, value, len(clients))
                    had = state.get(name)
                    if had is None:
                        c.state[name] = first.clone()
                    else:
                        had[newcomers] = first[newcomers]
            yield c

    def run(self, c: Clients) -> None:
        """Run the program of a block within its context, and leave its state in memory of its own, or lend it."""
        had = {name: Field.of(part) for name, part in c.state.items()}
        call_hook(self.task.program.client, c, "client(c)", _SEND)
        c.state = check_state(c.state, had, c.model)
        if c.kept is not None:
            c.state[OPTIMIZER] = c.kept
        if self.task.layout.personal:
            layout = self.task.layout
            c.state[PERSONAL] = (layout.personal_in if self._lends else layout.personal_of)(c.model)

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
            buffers: the start of the clients' buffers, ``[C, P - D]``, if not the broadcast one.
            known: True for the clients that have a state, ``[C]``; default: all.

        Returns:
            The update; its tensors are only valid until the next call.

        Raises:
            Exception: whatever the user's model, loss, optimizer or data raises.
        """
        with self.block(clients, down, state, buffers, known) as c:
            self.run(c)
        layout, seen = self.task.layout, self.task.profile
        check_sent(c.sent, seen.sends)
        check_kept(c.apart, seen.apart)
        c.state |= {SENT + name: part for name, part in c.apart.items()}
        if (slots := {name: count for name, (_, count) in c.slots.items()}) != seen.slots:
            raise ValueError(f"send(..., slots=...): {slots}, in the trial before the run {seen.slots}")
        weight = check_weight(c.weight, len(clients), seen.weighs)
        fragments, left = self.task.fragments, None
        columns = None if fragments is None else fragments.at(down.round).columns
        with torch.no_grad():
            travels, start = c.model[:, : layout.shared], c.shared(down.parts["model"])
            if (sent := c.sent.pop(DELTA, None)) is not None:
                travels.copy_(sent)
            elif self._subtracted or len(clients) > 1 or slots or columns is not None:
                travels.sub_(start)
            else:
                left = start
            if layout.rest and (BUFFERS in layout.spans or self.task.statistics):
                rest = c.model[:, layout.trained :]
                before = down.parts["model"][layout.trained :] if buffers is None else buffers
                stays = rest == before
                # Infinity, as in a mask, less itself is not a number.
                rest.sub_(before).masked_fill_(stays, 0.0)
            if self.task.statistics:
                c.sent[STATISTICS] = c.model[:, layout.trained :].clone()
            if columns is not None:
                c.sent[DELTA] = columns.of(travels)
        total = sum((trace.total for trace in c.traces), np.zeros(len(clients)))
        none = np.zeros(len(clients), dtype=np.int64)
        examples = sum((trace.count.sum(axis=1) for trace in c.traces), none)
        counted = sum((trace.seen for trace in c.traces), none)
        return BlockUpdate(
            round=down.round,
            clients=clients,
            parts={name: c.model[:, span] for name, span in layout.spans.items()} | c.sent,
            state=c.state,
            weight=c.counts.astype("float64") if weight is None else weight,
            loss=total / counted.clip(min=1),
            examples=examples,
            counted=counted if any(trace.counted is not None for trace in c.traces) else None,
            slots={name: slot for name, (slot, _) in c.slots.items()},
            start=left,
            taken=None if self.task.private is None else c.taken,
            columns=columns,
        )

    def ask(self, c: Clients) -> None:
        """Run the survey of a block within its context."""
        c.state = MappingProxyType(c.state)  # type: ignore[assignment]
        with read_only(c.state, "c.state", "as a survey keeps nothing"):
            call_hook(self.task.program.survey, c, "survey(c)", _SEND)
        check_survey(c.sent, c.slots, c.weight, c.apart)

    def survey(
        self,
        clients: Ints,
        down: Broadcast,
        state: Parts,
        buffers: Tensor | None = None,
        known: Tensor | None = None,
    ) -> BlockUpdate:
        """Return what C clients answer in the survey of a round; arguments and errors are those of :meth:`train`."""
        with self.block(clients, down, state, buffers, known) as c:
            self.ask(c)
        check_sent(c.sent, self.task.profile.surveys)
        none = np.zeros(len(clients))
        return BlockUpdate(down.round, clients, c.sent, {}, c.counts.astype("float64"), none, none.astype(np.int64))

    @property
    def hidden(self) -> HiddenState:
        """The hidden state of model, loss and optimizer function: what they remember elsewhere."""
        return self.stepper.hidden


def _put(rows: Tensor, which: Tensor, values: Tensor) -> None:
    """Set those of ``rows`` of a model ``[C, k]`` for which ``which`` ``[C]`` is True."""
    if rows.device.type == "cpu":
        rows.numpy()[which.numpy()] = values.numpy()  # for few short rows in a quarter of torch's time
    else:
        rows[which] = values


def _filled(rows: Tensor, vector: Tensor) -> Tensor:
    """Return ``rows`` ``[C, P]``, each set to ``vector`` ``[P]``."""
    if rows.device.type != "cpu":
        return rows.copy_(vector)
    # Large copies of the C library do not read what they overwrite; those of torch do, and take half as long again.
    np.copyto(rows.numpy(), vector.numpy())
    return rows
