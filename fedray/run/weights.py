"""The weights of clients in the mean: ``algorithm.weight``."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedray.core.errors import ConfigError, counted
from fedray.core.losses import ignore_index
from fedray.core.messages import Floats, Ints
from fedray.local.task import LocalTask

Weights = Literal["examples", "uniform", "tokens", "own"]


def weights(kind: Weights, task: LocalTask, clients: Ints) -> Floats:
    """Return the weights of some clients, ``[C]``, as the server and each worker know them before anybody trains.

    Args:
        kind: ``examples`` (m_i), ``tokens`` (target positions that the loss counts), or ``uniform`` (1), as for clients
            whose program has its own.
        task: the local training problem.
        clients: client indices ``[C]``.
    """
    if kind == "examples":
        return task.data.sizes[clients].astype(np.float64)
    if kind == "tokens":
        return task.data.positions(clients, ignore_index(task.loss_fn), task.about.unsaid).astype(np.float64)
    return np.ones(len(clients))


def check_weights(kind: Weights, task: LocalTask) -> None:
    """Raise ConfigError where clients cannot weigh so: targets have no positions, or none of a client's counts."""
    if kind != "tokens":
        return
    # Made-up rows have the shape of real ones, which a silo alone can open.
    task.data.probe().positions(np.zeros(1, dtype=np.int64), 0)
    found = weights(kind, task, np.arange(len(task.data)))
    if (empty := np.flatnonzero(found == 0)).size:
        who = repr(task.data.client_id(int(empty[0])))
        more = f" and {counted(len(empty) - 1, 'more client')}" if len(empty) > 1 else ""
        raise ConfigError(
            f"algorithm.weight: tokens: no target position of client {who}{more} counts, as all are "
            f"{ignore_index(task.loss_fn)}, the loss's ignore_index; leave such clients out, or take examples"
        )
