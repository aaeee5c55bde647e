"""The failure policy, a pure function: the failures of a round decide if the run goes on.

And the reports of items that nobody could do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedray.config.sections import FailuresSection
from fedray.core.errors import counted
from fedray.core.messages import Block, BlockReport, Failure, Ints
from fedray.core.places import NOWHERE
from fedray.run.evaluation import HoldoutChunk, HoldoutReport
from fedray.run.worker import Job

_OF_ITS_OWN = re.compile(
    r"(client .+ failed in round \d+|round \d+: only .+ first failure: client .+) \((train|update)\): "
)


def verdict(policy: FailuresSection, failures: Sequence[Failure], sampled: int) -> str | None:
    """Return the reason why the run must end, or None; the order of the failures does not matter.

    Args:
        policy: the meaning of failures.
        failures: of a round, at most one for each client.
        sampled: clients of the round's cohort that were asked: not those that dropped out as ``failures.dropout`` says.
    """
    ordered = sorted(failures, key=lambda failure: failure.client)
    for failure in ordered:
        if failure.stage == "left_out":
            continue
        rule = policy.on_nonfinite if failure.stage == "update" else policy.on_failure
        if rule == "abort":
            return f"client {failure.name!r} failed in round {failure.round} ({failure.stage}): {failure.error}"
    survivors = sampled - len(ordered)
    if ordered and (survivors == 0 or survivors < policy.min_share * sampled):
        first = ordered[0]
        return (
            f"round {first.round}: only {survivors} of {counted(sampled, 'client')} survived, failures.min_share is "
            f"{policy.min_share}; first failure: client {first.name!r} ({first.stage}): {first.error}"
        )
    return None


def lies_with_a_client(reason: str) -> bool:
    """Return whether a verdict names a client whose training failed by itself, which `fedray debug` can look at.

    >>> lies_with_a_client("client 'ost' failed in round 3 (update): delta is not finite")
    True
    >>> lies_with_a_client("client 'ost' failed in round 3 (worker): its process died")
    False
    """
    return _OF_ITS_OWN.match(reason) is not None


def give_up(job: Job, block: Block, stage: str, reason: str, trace: str = "") -> BlockReport:
    """Report a block that nobody could train: all its clients failed."""
    none = np.zeros(0)
    failures = _failures(job, block.clients, block.round, stage, reason, trace)
    return BlockReport(block.index, none.astype(np.int64), none, none, none.astype(np.int64), NOWHERE, failures, 0.0)


def unseen(job: Job, chunk: HoldoutChunk, round: int, reason: str) -> HoldoutReport:
    """Report clients on whose rows nobody could evaluate the model after ``round``."""
    failures = _failures(job, chunk.clients, round, "worker", reason)
    none = np.zeros(0, dtype=np.int64)
    return HoldoutReport(chunk.index, none, {}, none, 0.0, failures)


def _failures(job: Job, clients: Ints, round: int, stage: str, reason: str, trace: str = "") -> tuple[Failure, ...]:
    return tuple(Failure(c, job.task.data.client_id(c), round, stage, reason, trace) for c in clients.tolist())


def listed(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    """Return failures as a record has them, by client."""
    return [{"client": f.name, "stage": f.stage, "error": f.error} for f in sorted(failures, key=lambda f: f.client)]
