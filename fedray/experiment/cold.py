"""Statistics of layers that stay with their client and begin cold: what an evaluation would show of them."""

from __future__ import annotations

import numpy as np
from torch import nn

from fedray.config.sections import EvaluateSection
from fedray.local.schedule import step_bounds
from fedray.local.task import LocalTask
from fedray.sampling import Sampler

_ENOUGH = 0.02
"""The share of newcomers, and of what is left of the beginning, below which nothing is said."""


def cold(task: LocalTask, evaluate: EvaluateSection, sampler: Sampler, rounds: int) -> str:
    """Say in one line that clients' own models will be evaluated by cold running statistics; empty: they will not.

    Running statistics move from 0 and 1 by the layer's ``momentum`` at each of the client's own steps.

    Args:
        task: local training.
        evaluate: the evaluations.
        sampler: cohorts.
        rounds: all of the run.
    """
    own = {entry.name for entry in task.layout.entries if entry.kind == "buffer" and entry.region == "personal"}
    if not own or not evaluate.clients_every:
        return ""
    found = (
        part
        for name, part in task.model_fn().named_modules()
        if isinstance(part, nn.modules.batchnorm._NormBase) and f"{name}.running_mean".lstrip(".") in own
    )
    part = next(found, None)
    if part is None or part.running_mean is None or part.running_mean.is_meta or part.running_mean.any():
        return ""
    sizes = task.data.sizes
    share = min(1.0, sampler.expected(sizes) / len(sizes))
    newcomers = (1.0 - share) ** rounds
    steps = float(np.median(step_bounds(task.args, sizes, task.data.keys(np.arange(len(sizes))))))
    each = rounds * share / (1.0 - newcomers)  # of those that take part at all
    left = 0.0 if part.momentum is None else (1.0 - part.momentum) ** (steps * each)
    if max(newcomers, left) < _ENOUGH:
        return ""
    layer = type(part).__name__
    return (
        f"evaluate.clients_every: the running statistics of {layer} stay with their client and begin at mean 0 and "
        f"variance 1: after {rounds:,} rounds about {newcomers:.0%} of the clients have not taken part, and in the "
        f"statistics of the others {left:.0%} of that beginning is left; take more rounds, larger cohorts or a larger "
        f"momentum, such as {layer}(..., momentum=0.9)"
    )
