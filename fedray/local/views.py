"""The views of a client: what its own model, and one that is fine-tuned, make of the rows that it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.config.sections import EvaluateSection
from fedray.core.layout import Layout
from fedray.core.messages import Broadcast, Floats, Ints, Parts
from fedray.core.rng import integer
from fedray.data.columns.rows import Rows
from fedray.local.clients import Clients
from fedray.local.guards import check_models
from fedray.local.kernels import memory_told
from fedray.local.program import ClientProgram
from fedray.local.task import LocalTask
from fedray.local.trainer import Trainer
from fedray.metrics.measures import Measures, States
from fedray.metrics.sums import on_host

Values = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(outputs, targets) to values of each example, each ``[B, ...]``."""


@dataclass(frozen=True)
class Views:
    """The ways in which an evaluation sees each client.

    Args:
        shared: ``global``: the server's model.
        own: ``personal``: the model that the client would use in the coming round.
        finetune: ``finetuned``: that model after so many ``epochs`` or ``steps`` on the client's training rows; None:
            there is no such view.
    """

    shared: bool = True
    own: bool = False
    finetune: Mapping[str, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the views, in order."""
        found = {"global": self.shared, "personal": self.own, "finetuned": bool(self.finetune)}
        return tuple(name for name, there in found.items() if there)


def views_of(task: LocalTask, evaluate: EvaluateSection) -> Views:
    """Return the views of a task: ``personal`` is there where clients have something of their own."""
    return Views(serves(task), has_own(task), evaluate.finetune)


def has_own(task: LocalTask) -> bool:
    """Tell if clients have something of their own: a part of the model, or what their program says."""
    kind = type(task.program)
    own = kind.personal is not ClientProgram.personal or kind.predict is not ClientProgram.predict
    return own or task.layout.personal > 0 or task.submodels is not None


def serves(task: LocalTask) -> bool:
    """Tell if the server's row is a model."""
    return is_model(task.program, task.layout)


def is_model(program: ClientProgram, layout: Layout) -> bool:
    """Tell if the server's row is a model: it has all that is trained, and the algorithm does not say otherwise."""
    return program.global_model and layout.shared == layout.trained


def whole_models(c: Clients, found: Tensor | None) -> Tensor:
    """Return the clients' models ``[C, P]``, as they would be used.

    Args:
        c: the clients, whose models are the broadcast one with what is their own.
        found: the models by their program: ``[C, D]``, or ``[C, P]`` with buffers, or one for all; None:
            those of the clients.
    """
    if found is None:
        return c.model
    found = check_models("personal", found if found.dim() == 2 else found.expand(len(c), -1), len(c), c.layout).detach()
    rest = c.model[:, found.shape[1] :]
    return torch.cat([found, rest], dim=1) if rest.shape[1] else found


@dataclass(frozen=True)
class Seen:
    """The result of an evaluation of clients ``[C]``.

    Args:
        sums: of each view the metric sums over what each client is evaluated on, ``[C]``.
        fitted: the number of training examples that its fits used.
        states: of each view, for each client, the sums of the metrics that are no means.
    """

    sums: dict[str, dict[str, Floats]]
    fitted: int
    states: dict[str, list[States]]


def see(
    trainer: Trainer,
    clients: Ints,
    down: Broadcast,
    state: Parts,
    known: Tensor,
    buffers: Tensor | None,
    views: Views,
    measures: Measures,
) -> Seen:
    """Evaluate a block of clients by their own models, and leave no trace of it.

    Args:
        trainer: the trainer.
        clients: client indices ``[C]``, each with rows to be evaluated on; C = 1 for a sequential task.
        down: the broadcast of the coming round, as they would receive it.
        state: their state, each ``[C, k]``.
        known: True for those that have a state, ``[C]``.
        buffers: the buffers ``[B]`` of the evaluated model, if not the broadcast one's.
        views: the wanted views; of ``global`` nothing is done here.
        measures: the metrics.
    """
    rest = None if buffers is None else buffers.expand(len(clients), -1)
    with memory_told(), trainer.block(clients, down, state, rest, known) as c:
        # Draws of their own: a fit of an evaluation repeats none of the coming round's.
        task = c.task = replace(trainer.task, seed=integer(trainer.task.seed, "evaluate"))
        seen = dict(_seen(c, task, views, measures))
        return Seen({view: sums for view, (sums, _) in seen.items()}, c.fitted, {v: s for v, (_, s) in seen.items()})


_Sums = tuple[dict[str, Floats], list[States]]


def _seen(c: Clients, task: LocalTask, views: Views, measures: Measures) -> Iterator[tuple[str, _Sums]]:
    held = _evaluated_on(c)
    models = whole_models(c, task.program.personal(c))
    if views.own:
        yield "personal", _sums(c, task, models, held, measures)
    if views.finetune:
        c.model.copy_(models)
        c.fit(epochs=views.finetune.get("epochs"), steps=views.finetune.get("steps"))
        yield "finetuned", _sums(c, task, c.model, held, measures)


def _evaluated_on(c: Clients) -> tuple[Rows, Ints]:
    x, y, segment = c.task.data.evaluation(c.index)
    counts = np.bincount(segment, minlength=len(c)).astype(np.int64)
    return Rows(x, y, np.cumsum(counts) - counts, counts, c.device), counts


def _sums(c: Clients, task: LocalTask, models: Tensor, held: tuple[Rows, Ints], measures: Measures) -> _Sums:
    """Return the sum of each mean over what each client is evaluated on, ``[C]``, and each client's other sums."""
    sums: dict[str, Floats] = {}
    places: list[Ints] = []
    rows: dict[str, list[NDArray[Any]]] = {}
    with torch.no_grad():
        for step in c.scan(models, held, rows=task.evaluated_rows):
            output, y = task.program.predict(step).float(), step.batch.y
            count = torch.from_numpy(step.batch.count).to(output.device)
            real = torch.arange(y.shape[1], device=output.device) < count[:, None]
            found = measures(output.flatten(0, 1), y.flatten(0, 1))
            for name in [name for name in found if name in measures.means]:
                kept = torch.where(real, found.pop(name).view(real.shape), 0.0).to("cpu", torch.float64)
                sums[name] = sums.get(name, np.zeros(len(c))) + kept.sum(dim=1).numpy()
            if found:
                places.append(np.repeat(np.arange(len(c)), step.batch.count))
                for name, value in on_host({name: value[real.flatten()] for name, value in found.items()}).items():
                    rows.setdefault(name, []).append(value)
    whole = {name: np.concatenate(parts) for name, parts in rows.items()}
    return sums, measures.states(whole, np.concatenate(places), len(c)) if places else []
