"""From what workers have folded to the aggregate of a round, and what is told of it."""

from __future__ import annotations

import numpy as np

from fedray.aggregators.base import Accumulator, too_few
from fedray.config.registry import name_of
from fedray.core.errors import RunFailed
from fedray.core.messages import Aggregate, BlockReport, Parts
from fedray.core.now import Now
from fedray.core.record import RoundRecord
from fedray.run.plan import Plan


def aggregate(
    plan: Plan, kept: Parts, folded: Accumulator, planned: float, reports: list[BlockReport], record: RoundRecord
) -> tuple[Aggregate, Parts]:
    """Aggregate a round, and write into its record what parts tell.

    Args:
        plan: the plan.
        kept: the tensors that the aggregator keeps; they stay as they are: should the round fail, the checkpoint of the
            last one is to be whole.
        folded: an accumulator of all accepted updates; used up.
        planned: total planned weight of the cohort.
        reports: of the round's blocks, at least one with a client.
        record: of the round.

    Returns:
        The aggregate, and the tensors that the aggregator keeps from now on.

    Raises:
        RunFailed: too few clients for the aggregator.
    """
    aggregator = plan.algorithm.aggregator
    clients = np.concatenate([report.clients for report in reports])
    if len(clients) < aggregator.least:
        raise RunFailed(too_few(aggregator, len(clients), f"round {record.round} has"))
    now = Now(plan.task.seed, record.round, {name: tensor.clone() for name, tensor in kept.items()})
    weight = float(np.concatenate([report.weight for report in reports]).sum())
    total = aggregator.finish(folded, weight, planned, len(clients), now)
    if now.metrics:
        record.metrics[name_of(aggregator)] = now.metrics
    if plan.attackers is not None:
        lying = np.sort(clients[plan.attackers.among(clients)]).tolist()
        record.attackers = [plan.task.data.client_id(client) for client in lying]
        if now.shares:
            record.metrics["attack"] = {"share": sum(now.shares[client] for client in lying)}
    return total, now.state
