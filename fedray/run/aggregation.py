"""From what workers have folded to the aggregate of a round, to the moved model, and what is told of both."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.base import too_few
from fedray.config.registry import name_of
from fedray.core import inject
from fedray.core.errors import RunFailed, one_line
from fedray.core.messages import BUFFERS, DELTA, STATISTICS, VECTOR, Aggregate, BlockReport, Parts
from fedray.core.noise import Journal, Noise, unwritten
from fedray.core.now import Now
from fedray.core.record import RoundRecord
from fedray.run.plan import Plan
from fedray.run.state import ServerState
from fedray.transforms.base import Transform
from fedray.transforms.chain import MakeNoise

_log = logging.getLogger(__name__)


def aggregate(
    plan: Plan,
    kept: Parts,
    folded: Mapping[str, Tensor],
    planned: float,
    reports: list[BlockReport],
    record: RoundRecord,
    noise: MakeNoise | None = None,
) -> tuple[Aggregate, Parts]:
    """Aggregate a round, and write into its record what parts tell.

    Args:
        plan: the plan.
        kept: the tensors that the aggregator keeps; they stay as they are: should the round fail, the checkpoint of the
            last one is to be whole.
        folded: all accepted updates, as executors collect them; used up.
        planned: total planned weight of the cohort.
        reports: of the round's blocks, at least one with a client.
        record: of the round.
        noise: makes the noise of transforms that protect privacy; None: none does, or nobody accounts for it.

    Returns:
        The aggregate, and the tensors that the aggregator keeps from now on.

    Raises:
        RunFailed: too few clients for the aggregator.
        RowsLost: updates that it wanted to look at were lost with their node.
        BudgetExceeded: a release that stands before the sum is opened must not be made.
    """
    aggregator = plan.algorithm.aggregator
    clients = np.concatenate([report.clients for report in reports])
    sampled = len(plan.cohort(record.round)) if aggregator.least else 0
    if len(clients) < aggregator.least_of(sampled):
        raise RunFailed(too_few(aggregator, len(clients), f"round {record.round} has", sampled))
    own = {name: tensor.clone() for name, tensor in kept.items()}
    now = Now(plan.task.seed, record.round, own, clients=tuple(np.sort(clients).tolist()))
    if noise is not None:
        plan.algorithm.transforms.before_opening(dict(folded), now.clients, now.seed, now.round, noise)
    inject.point("driver.opening", record.round)
    weight = float(np.concatenate([report.weight for report in reports]).sum())
    total = aggregator.finish(folded, weight, planned, len(clients), now)
    tell(record, name_of(aggregator), now.metrics)
    if plan.attackers is not None:
        lying = np.sort(clients[plan.attackers.among(clients)]).tolist()
        record.attackers = [plan.task.data.client_id(client) for client in lying]
        if now.shares:
            record.metrics["attack"] = {"share": sum(now.shares[client] for client in lying)}
    return total, now.state


def noise_of(state: ServerState, round: int, journal: Journal = unwritten) -> MakeNoise:
    """Return what makes the noise of transforms in a round, by the keys of a run; arguments as for :func:`move`."""

    def make(transform: Transform, part: int) -> Noise:
        return Noise(state.noise.of(transform.noise or "secure", round), round, part, journal, state.noise.memory)

    return make


def move(plan: Plan, state: ServerState, total: Aggregate, record: RoundRecord, journal: Journal = unwritten) -> None:
    """Transform the aggregate of a round and move the model by it, in place, and write what parts tell into its record.

    Buffers and frozen parameters move by their averaged change, whatever the algorithm does.

    Args:
        plan: the plan.
        state: of the server.
        total: the aggregate.
        record: of the round.
        journal: the place where releases of private data are written down before their noise is added.

    Raises:
        RunFailed: a part tells of something that is no number.
    """
    layout, algorithm = plan.layout, plan.algorithm
    denominator = plan.denominator
    total = replace(total, expected=denominator)

    def hear(transform: Transform, *metrics: Mapping[str, float] | None) -> None:
        tell(record, name_of(transform), *metrics)

    noise = noise_of(state, record.round, journal)
    algorithm.transforms.on_aggregate(total, state.transforms, plan.task.seed, record.round, hear, noise)
    if BUFFERS in total.parts:
        layout.round_integers(total.parts[BUFFERS])
    if (change := total.parts.pop(STATISTICS, None)) is not None and total.count:
        assert state.statistics is not None
        carried = layout.among_buffers(plan.task.carried).to(change.device)
        state.statistics = torch.where(carried, state.statistics, state.vector[-len(change) :]) + change
        layout.round_integers(state.statistics)
    hidden = any(transform.hides_empty for transform in algorithm.transforms)
    count, weight = (denominator, denominator) if hidden else (total.count, total.weight)
    apart = [name for name in VECTOR if name != DELTA and name in total.parts]
    heard = {name: part for name, part in total.parts.items() if name not in apart}
    state.server.enter(record.round)
    told = algorithm.program.step(state.server, replace(total, parts=heard, count=count, weight=weight))
    if algorithm.program.uses_server and not state.server.moved and record.round == 1:
        words = "%s gave no update to s.move, so that the server optimizer %s is without effect; where that is meant, "
        _log.warning(words + "say uses_server = False", algorithm.name, name_of(algorithm.server))
    tell(record, algorithm.name, told)
    tell(record, name_of(algorithm.server), state.server.metrics)
    for name in apart:
        state.vector[layout.spans[name]].add_(total.parts[name])


def tell(record: RoundRecord, part: str, *metrics: Mapping[str, float] | None) -> None:
    """Write numbers that a part tells of a round into its record, under its name, or name_2 where that is taken.

    Raises:
        RunFailed: something else than numbers by name.
    """
    try:
        told = {str(name): float(value) for found in metrics for name, value in (found or {}).items()}
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise RunFailed(f"round {record.round}: {part} must tell numbers by name: {one_line(error)}") from error
    if told:
        places = itertools.chain([part], (f"{part}_{number}" for number in itertools.count(2)))
        record.metrics[next(place for place in places if place not in record.metrics)] = told
