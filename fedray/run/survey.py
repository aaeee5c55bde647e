"""The survey of a round: what its clients say before any of them trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from fedray.core.messages import BlockReport, Broadcast, Ints
from fedray.core.now import Now
from fedray.core.places import NOWHERE
from fedray.run.plan import Plan
from fedray.run.usage import Usage


@dataclass(frozen=True)
class Survey:
    """The outcome of a survey.

    Args:
        down: the broadcast for the training, with the means.
        clients: those that train, ``[C]``, in the order of the cohort.
        failed: reports of the clients that failed, and of nobody else.
        began: the time of its publication, on the clock of phases.
        usage: of the machines.
    """

    down: Broadcast
    clients: Ints
    failed: tuple[BlockReport, ...]
    began: float
    usage: Usage


def surveyed(
    plan: Plan,
    down: Broadcast,
    asked: Ints,
    folded: Mapping[str, Tensor],
    reports: Sequence[BlockReport],
    began: float,
    usage: Usage,
) -> Survey:
    """Return the outcome of a survey.

    Args:
        plan: the plan.
        down: the broadcast of the survey.
        asked: its clients.
        folded: the answers, as executors collect them.
        reports: of its blocks.
        began: the time of its publication.
        usage: of the machines.
    """
    answered = np.concatenate([report.clients for report in reports])
    parts = dict(down.parts)
    if len(answered):
        now = Now(plan.task.seed, down.round)
        weight = float(np.concatenate([report.weight for report in reports]).sum())
        means = plan.algorithm.aggregator.finish(folded, weight, down.weight, len(answered), now).parts
        # What was folded lies where the training is folded next.
        parts |= {name: means[name].clone() for name in plan.task.profile.surveys}
    none = np.zeros(0)
    columns = none.astype(np.int64), none, none, none.astype(np.int64)
    failed = tuple(BlockReport(r.index, *columns, NOWHERE, r.failures, r.seconds) for r in reports if r.failures)
    return Survey(replace(down, parts=parts), asked[np.isin(asked, answered)], failed, began, usage)
