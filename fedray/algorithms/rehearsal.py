"""The rehearsal of the server's step, before a run."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedray.algorithms.composition import Composition
from fedray.core.errors import ConfigError, one_line
from fedray.core.layout import Layout
from fedray.core.messages import DELTA, STATISTICS, VECTOR, Aggregate
from fedray.local.task import LocalTask
from fedray.server import PerClient, Server
from fedray.server.rows import HeldRows

_COUNT = 2


def check_step(algorithm: Composition, task: LocalTask, vector: Tensor) -> None:
    """Try the server's step on a copy of the model, with something small of everything that clients send.

    Args:
        algorithm: with what the trial of its program saw.
        task: the local training problem.
        vector: the model ``[P]``, which is left as it is.

    Raises:
        ConfigError: it fails, tells something else than numbers, keeps other tensors than it started with, or moves
            what does not travel in the round.
    """
    who = f"algorithm: the server's step of {algorithm.name}"
    try:
        server = algorithm.start(vector.clone(), task.layout, len(task.data), task.data.spec.outputs, task.seed)
        kept = {name: tensor.shape for name, tensor in server.state.items()}
        server.enter(1)
        _check_rows(algorithm, server)
        before = vector if task.fragments is None else vector.clone()
        told = algorithm.program.step(server, _small(algorithm, task.layout))
        _ = {str(name): float(number) for name, number in (told or {}).items()}
        left = {name: tensor.shape for name, tensor in server.state.items()}
    except Exception as error:
        raise ConfigError(f"{who} fails: {one_line(error)}") from error
    for place in (fragment := task.moved(2) or ()):
        before[place] = server.vector[place]
    if fragment and not torch.equal(before, server.vector):
        raise ConfigError(f"{who} moves more than the fragment of the round: s.move(delta) moves that alone")
    if left != kept:
        raise ConfigError(
            f"{who} leaves {', '.join(left) or 'nothing'} in s.state, of other names or shapes than its start, "
            f"{', '.join(kept) or 'nothing'}: start returns all"
        )


def _check_rows(algorithm: Composition, server: Server) -> None:
    """Let the server make the rows of a client that has sent nothing yet, and of one that has.

    Raises:
        ValueError: one is of another length than it says, or not finite.
    """
    apart = algorithm.profile.apart
    sent = {name: torch.full((_COUNT, each.width), 0.01).to(each.dtype) for name, each in apart.items()}
    for client, rows in ((0, HeldRows()), (1, HeldRows(np.arange(_COUNT), sent))):
        server.rows = rows
        for name, part in algorithm.program.broadcast(server).items():
            row = part.row(client) if isinstance(part, PerClient) else torch.zeros(algorithm.receives[name])
            width = algorithm.addressed.get(name, len(row))
            if row.shape != (width,) or not row.isfinite().all():
                raise ValueError(f"the {name} for a client is {list(row.shape)}, or not finite; it must be [{width}]")


def _small(algorithm: Composition, layout: Layout) -> Aggregate:
    """Return a mean as the server hears it: by slots ``[slots, k]``, everybody alike in each."""
    slots = algorithm.profile.slots
    parts = {
        name: torch.full((slots[name], width) if name in slots else (width,), 0.01)
        for name, width in {**algorithm.sends(layout), **algorithm.profile.surveys}.items()
        if name == DELTA or name not in (*VECTOR, STATISTICS)
    }
    shares = {name: torch.full((count,), 1.0 / count) for name, count in slots.items()}
    return Aggregate(parts, weight=float(_COUNT), count=_COUNT, shares=shares)
