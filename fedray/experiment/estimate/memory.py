"""The memory and disk of a run: counted from what the engine allocates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.gathered import COLUMNS, by_columns
from fedray.core.draws import put_back
from fedray.core.errors import ConfigError
from fedray.core.messages import VECTOR
from fedray.experiment.estimate.step import evaluation_bytes, of_shapes, step_bytes
from fedray.local.modes import train_mode
from fedray.local.schedule import batch_widths
from fedray.local.sharded import units
from fedray.local.task import LocalTask
from fedray.models.prototype import peek
from fedray.models.quantized import bytes_of
from fedray.models.shared import base_of, moves_once
from fedray.run.plan import Plan
from fedray.run.worker import Job
from fedray.server import Server
from fedray.tasks import outputs_of

_FLOAT, _DOUBLE, _INDEX = 4, 8, 8


@dataclass(frozen=True)
class Memory:
    """Bytes by purpose, besides Python, torch and the data.

    Args:
        worker: of one worker, or of each of its ranks.
        driver: of the driver.
        checkpoint: one checkpoint on disk.
        state: state of all clients on disk, once each has taken part.
        frozen: tensors that are in no vector and are not trained, such as the base of adapters.
        mapped: True where a node holds that once, as it is mapped from its file; else each process does.
        apart: the part of it that each model on a GPU has for itself; the rest a process has there once.
        built: the model as a worker builds it, until its first evaluation takes it; as each of its ranks does, for a
            moment.
    """

    worker: dict[str, int]
    driver: dict[str, int]
    checkpoint: int
    state: int
    frozen: int = 0
    mapped: bool = False
    apart: int = 0
    built: int = 0


def memory(plan: Plan, server: Server, workers: int) -> Memory:
    """Count the memory of a run: P of the vector, D of its trained part, W of all a client sends, S of its state.

    A worker holds the broadcast ``4 (P + extra parts)`` (shared by the workers of a node), its accumulator ``8 W``,
    and, for the C clients that step at once (1 if one by one): the local models ``4 C P``, whose place the updates
    take; gradients ``4 C D``, twice if they are joined (in a stack) or changed by the rule, once more in a stack if
    they are clipped; the optimizer ``4 C k D`` with k numbers of its own for each parameter; state, before and after,
    ``8 C S``; other parts ``4 C (W - P)``; two
    copies of the update, ``8 C P``, where transforms work on it, and three more where it is encoded; where the
    broadcast model is, what clients hear of it, ``4 P``; the sum of a block of several ``4 W``; and what
    autograd keeps of a step, C times that of the largest batch.  Where a worker's devices share out a
    batch, the first has its gradients three times, as they are joined with those that arrive, and each other one a copy
    ``4 P`` and gradients twice; autograd's share lies on each.

    Where a worker has R ranks, all of that but the broadcast is for each of them 1/R of it, the local models twice, and
    the accumulator, of which a part is the worker's; and two of the layers that are gathered one at a time are whole.

    The driver holds ``4 P`` and what the algorithm and the server optimizer keep, the total ``8 W`` and its float32
    result ``4 W``, what the aggregator keeps, before and after the round, and a checkpoint on its way to disk.

    Of a model of shapes alone what a pass takes is counted whole, as :func:`step_bytes` says, and so is an evaluation.

    For aggregators that must see every update a worker's node holds the rows of its share of the cohort, ``4 W`` a
    client, and the worker those of a block twice, in the place of its accumulator.  The driver, and later each of
    several workers, reads them a few columns at a time, 4 million values or as many as there are, of 20 bytes with what
    sorting or centring takes; or the driver all of them, ``4 W`` a client more.

    Args:
        plan: the plan.
        server: its server, started.
        workers: the number of workers that share the cohort.
    """
    task, algorithm, layout = plan.task, plan.algorithm, plan.layout
    largest = max((part.layout for part in task.parts()), key=lambda own: own.size)
    size, trained = largest.size, largest.trained
    sends = algorithm.sends(layout)
    sent = sum(algorithm.widths(layout).values())
    kept = sum(field.nbytes for field in Job(task, algorithm, Path()).state_fields().values())
    cohort = max(1, round(plan.sampler.expected(task.data.sizes)))
    stacked = task.stacking.stacked
    at_once = task.stacking.size if stacked else 1
    twice = stacked or not task.program.plain
    clipped = stacked and task.args.clip_grad_norm is not None
    others, ranks = task.sharing.devices - 1, task.sharing.ranks
    if of_shapes(task):
        passes = max(at_once * step_bytes(task), evaluation_bytes(task))
    else:
        passes = at_once * activation_bytes(plan)
    parts = {
        "local models": _FLOAT * at_once * size,
        "gradients": _FLOAT * at_once * trained * ((3 if others else 2 if twice else 1) + clipped),
        "optimizer": _FLOAT * at_once * trained * _optimizer_values(plan),
        "client state": 2 * at_once * kept,
        "other parts sent": _FLOAT * at_once * sum(width for name, width in sends.items() if name not in VECTOR),
        "transforms": _FLOAT * at_once * trained * (5 if algorithm.transforms.up else 2 if algorithm.transforms else 0),
        "activations": passes,
        "other devices": others * _FLOAT * (size + 2 * trained),
    }
    broadcast = sum(algorithm.broadcast_widths(layout).values()) + (size if algorithm.transforms.down else 0)
    rule = sum(tensor.nbytes for tensor in server.state_dict().values())
    centre = sum(tensor.nbytes for tensor in plan.initial_kept("meta").values())
    saved = _FLOAT * layout.size + rule + centre + (3 * _INDEX * len(task.data) if kept else 0)
    if algorithm.aggregator.linear:
        folded, gathered = _DOUBLE * sent, _DOUBLE * sent + _FLOAT * sent
    else:
        share = -(-cohort // workers)
        at_hand = (_FLOAT + _DOUBLE + _INDEX) * min(sent * cohort, max(cohort, COLUMNS))
        twice_a_block = 2 * _FLOAT * sent * min(share, task.stacking.size)
        folded = _FLOAT * sent * share + max(twice_a_block, at_hand if workers > 1 else 0)
        gathered = at_hand + _DOUBLE * sent + (0 if by_columns(algorithm.aggregator) else _FLOAT * sent * cohort)
    own = {"accumulator": folded, "block sum": _FLOAT * sent if stacked else 0, **parts}
    if ranks > 1:
        own |= {name: 2 * own[name] for name in ("accumulator", "local models")}
        own = {name: -(-bytes // ranks) for name, bytes in own.items()} | {"gathered layers": 2 * gathered_bytes(plan)}
    return Memory(
        worker={"broadcast": _FLOAT * broadcast, **own},
        driver={
            "model": _FLOAT * layout.size,
            "server state": rule,
            "aggregation": gathered + 2 * centre,
            "checkpoint": saved,
        },
        checkpoint=saved,
        state=kept * len(task.data),
        **_frozen(task),
    )


def _frozen(task: LocalTask) -> dict[str, Any]:
    """Return what a model has beside the vector."""
    module = peek(task.model_fn)
    held = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    for tensor in task.layout.tensors(module).values():
        held.pop(id(tensor), None)
    frozen, mapped = sum(map(bytes_of, held.values())), base_of(module) is not None
    apart = sum(bytes_of(tensor) for tensor in held.values() if not moves_once(tensor))
    built = 0 if task.sharing.bare and task.sharing.ranks > 1 else _FLOAT * task.layout.size
    return {"frozen": frozen, "mapped": mapped, "apart": apart, "built": built}


def gathered_bytes(plan: Plan) -> int:
    """Return the bytes of the largest part of the model that ranks gather at a time."""
    module = plan.task.model_fn()
    counted: set[int] = set()
    sizes = [0]
    for part in (*units(module), module):
        new = {id(tensor): tensor.nbytes for tensor in part.parameters() if id(tensor) not in counted}
        counted |= new.keys()
        sizes.append(sum(new.values()))
    return max(sizes)


def activation_bytes(plan: Plan) -> int:
    """Return what autograd keeps for the backward pass of the largest batch of all clients, parameters aside.

    Raises:
        ConfigError: the step fails.
    """
    task = plan.task
    widths = batch_widths(task.args, task.data.sizes, task.data.keys(np.arange(len(task.data))))
    client = np.array([int(np.argmax(widths))])
    batch = int(widths.max())
    module = train_mode(task.model_fn())
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        x, y = task.data.probe().rows(client).take(np.arange(batch)[None])
        # What is drawn here does not matter, only that the generators are put back.
        with put_back(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task.loss_fn(outputs_of(module, x[0]), y[0])
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(f"client {task.data.client_id(int(client[0]))!r}: a training step fails: {words}") from error
    del loss
    return sum(kept.values())


def _optimizer_values(plan: Plan) -> int:
    """Count the numbers the client optimizer keeps for each parameter, by one step on two of them."""
    probe = torch.ones(2, requires_grad=True)
    optimizer = plan.task.optimizer_fn([probe])
    probe.grad = torch.ones(2)
    optimizer.step()
    values = (value for value in optimizer.state[probe].values() if isinstance(value, Tensor))
    return sum(value.numel() for value in values if value.shape == probe.shape) // 2
