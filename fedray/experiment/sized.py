"""A run that is planned by sizes alone: no weights are read, nothing is tried."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fedray.algorithms.composition import Composition
from fedray.core.errors import ConfigError
from fedray.data.columns.inputs import Inputs, like
from fedray.experiment.place import Place
from fedray.experiment.preflight import two_examples
from fedray.local.lane_choice import number_of
from fedray.local.program import ClientProgram
from fedray.local.task import LocalTask, Sharing, Stacking
from fedray.models.shapes import as_on_cpu
from fedray.run.evaluation import rows_at_once
from fedray.tasks import outputs_of


def check_sized(algorithm: Composition) -> None:
    """Raise ConfigError for an algorithm of which sizes alone do not tell what clients send and keep."""
    program = algorithm.program
    if not program.plain or type(program).initial_state is not ClientProgram.initial_state:
        raise ConfigError(
            f"--sizes: what clients of {algorithm.name} send and keep is seen in a trial of their program, for which "
            "the model itself is needed: leave --sizes out, or plan with algorithm=fedavg and add what it keeps"
        )


def shape_of_output(module: nn.Module, x: Inputs) -> tuple[int, ...] | None:
    """Return the shape of a model's outputs, of shapes alone; None where it looks at values."""
    try:
        with as_on_cpu(module) as (copied, moved), torch.no_grad():
            return tuple(outputs_of(copied.eval(), like(x, moved)).shape)
    except Exception:
        return None


def sized(task: LocalTask, module: nn.Module, place: Place, batch_size: int | str) -> LocalTask:
    """Return the local training problem of a model of shapes alone, with what a run would find out by trials assumed.

    Args:
        task: the problem.
        module: its model.
        place: the place of the run.
        batch_size: ``evaluate.batch_size``.
    """
    stack, ranks = task.args.stack, place.worker.ranks
    stacking = Stacking(1, False, "not tried; counted so, as local.stack names no number")
    if isinstance(stack, str) and stack.startswith("lanes:"):
        stack = number_of(stack) or 1
    if isinstance(stack, int) and not isinstance(stack, bool) and stack > 1:
        stacking = Stacking(stack, True, f"not tried; {stack} at once, as local.stack says")
    devices = 1 if stacking.stacked else place.most_devices(task.data)
    sharing = Sharing(devices, f"not tried; a client's batch over {devices} devices" if devices > 1 else "")
    if ranks > 1:
        sharing = Sharing(
            1, f"not tried; a client's batch, and its model, over {ranks} ranks of its worker", ranks, True
        )
    x, _ = two_examples(task.data.probe())
    with as_on_cpu(module) as (copied, moved):
        rows = rows_at_once(batch_size, copied, like(x, moved))  # type: ignore[arg-type]
    return replace(task, stacking=stacking, sharing=sharing, evaluated_rows=rows)
