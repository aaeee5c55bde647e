"""The models that a worker trains: the whole one, or a narrower one for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedray.algorithms.composition import Composition
from fedray.core.layout import Layout
from fedray.core.messages import STATISTICS, BlockUpdate, Broadcast, Ints, Parts
from fedray.local.steppers import MakeStepper, Stepper, stepper_for
from fedray.local.task import LocalTask
from fedray.local.trainer import Trainer


@dataclass
class Trained:
    """One of the models, with its trainer and the broadcast of the round.

    Args:
        number: its variant.
        task: its local training problem.
        trainer: of that.
        down: the broadcast to its clients.
        heard: the same as it reached them, through codecs.
    """

    number: int
    task: LocalTask
    trainer: Trainer
    down: Broadcast
    heard: Broadcast

    @property
    def layout(self) -> Layout:
        """The layout of the model."""
        return self.task.layout

    def with_parts(self, parts: Parts) -> Broadcast:
        """Return what clients hear, with more parts."""
        return replace(self.heard, parts={**self.heard.parts, **parts}) if parts else self.heard

    def train(self, clients: Ints, state: Parts, known: Tensor, more: Parts, key: bytes = b"") -> BlockUpdate:
        """Train clients, who also hear the means of a survey and rows of their own, see :meth:`Trainer.train`.

        ``key`` is that of the noise which they draw in their steps.
        """
        down = self.with_parts(more)
        down = replace(down, key=key) if key else down
        update = self.trainer.train(clients, down, state, self._buffers(clients), known)
        update.variant = self.number
        return update

    def survey(self, clients: Ints, state: Parts, known: Tensor, more: Parts) -> BlockUpdate:
        """Ask clients, who also hear rows of their own, see :meth:`Trainer.survey`."""
        return self.trainer.survey(clients, self.with_parts(more), state, self._buffers(clients), known)

    def _buffers(self, clients: Ints) -> Tensor | None:
        """Return the start of the clients' buffers; None: the broadcast one."""
        carries = STATISTICS in self.down.parts and self.task.carried
        return self._carried(self.down).expand(len(clients), -1) if carries else None

    def _carried(self, down: Broadcast) -> Tensor:
        """Return the global vector's buffers ``[P - D]``, with the last cohort's mean for what is only written."""
        layout, statistics = self.layout, down.parts[STATISTICS]
        mask = layout.among_buffers(self.task.carried).to(statistics.device)
        return torch.where(mask, statistics, down.parts["model"][layout.trained :])


class Models:
    """All models of a worker; each is made for the first block of its clients.

    Args:
        task: the local training problem of the whole model.
        algorithm: the broadcast passes through its codecs.
        devices: of the worker.
        make: makes the stepper of a task on them.
    """

    def __init__(
        self,
        task: LocalTask,
        algorithm: Composition,
        devices: Sequence[torch.device],
        make: MakeStepper = stepper_for,
    ) -> None:
        self._task, self._algorithm, self._devices, self._make = task, algorithm, devices, make
        self._parts = task.parts()
        self._trainers: dict[int, Trainer] = {}
        self._told: dict[int, Trained] = {}
        self.device = devices[0]
        if task.submodels is None:
            self._trainer(0)  # what it lacks shows before the first round

    def _trainer(self, number: int) -> Trainer:
        if number not in self._trainers:
            subtracted = not self._algorithm.subtracts
            self._trainers[number] = Trainer(self._parts[number], self._devices, self._make, subtracted, lends=True)
        return self._trainers[number]

    @property
    def stepper(self) -> Stepper:
        """The one that takes the steps of the whole model."""
        return self._trainer(0).stepper

    def layout(self, number: int) -> Layout:
        """Return the layout of a variant."""
        return self._parts[number].layout

    def of(self, clients: Ints, down: Broadcast) -> Trained:
        """Return the model that the clients of a block train, which has heard a broadcast to all."""
        number = int(self._task.variants(clients[:1])[0])
        if number not in self._told:
            part, models = self._parts[number], self._task.submodels
            own = down if models is None else models.received(number, down)
            heard = self._algorithm.transforms.heard(own, part.layout.shared, part.seed)
            self._told[number] = Trained(number, part, self._trainer(number), own, heard)
        return self._told[number]

    def forget(self) -> None:
        """Forget what clients have heard: another round begins."""
        self._told.clear()
