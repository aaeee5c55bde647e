"""The pace of a run: one block measured, the others scaled by their local steps."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedray.core.messages import Block, BlockReport, Broadcast, Failure, Ints
from fedray.experiment.capacity import worker_count
from fedray.experiment.place import Place
from fedray.run.addressed import FOLDER, Addressed
from fedray.run.executor import InlineExecutor
from fedray.run.plan import Plan
from fedray.run.worker import Job
from fedray.rundir.client_state import ClientStore
from fedray.server import Server

_ROUNDS_TRIED = 100


@dataclass(frozen=True)
class FirstRound:
    """The first round that has a cohort.

    Args:
        number: the round; more than 1 only if a random cohort was empty.
        cohort: its clients ``[n]``, without those that drop out.
        blocks: its blocks, longest first.
    """

    number: int
    cohort: Ints
    blocks: list[Block]

    @classmethod
    def of(cls, plan: Plan) -> FirstRound | None:
        """Find the first round with a cohort; None if the plan, or its first 100 rounds, has none."""
        for number in range(1, min(plan.rounds, _ROUNDS_TRIED) + 1):
            cohort = plan.staying(number, plan.cohort(number))
            if len(cohort):
                # Newcomers all: no state is looked up, so the folder does not matter.
                return cls(number, cohort, plan.blocks(number, cohort, ClientStore(Path(), {})))
        return None


@dataclass(frozen=True)
class Pace:
    """An estimate.

    Args:
        clients: in the measured block.
        steps: their local steps together.
        block: seconds it took, the second time.
        round: seconds of training in an average round.
        failures: clients of the block that gave no update.
    """

    clients: int
    steps: int
    block: float
    round: float
    failures: tuple[Failure, ...]


def measure(plan: Plan, place: Place, server: Server, first: FirstRound) -> Pace:
    """Train the round's first block twice in this process, the second time by the clock.

    A round is the work of its blocks over the workers, but no shorter than its longest block; a block's work is its
    clients' local steps.  Broadcast, aggregation and evaluation come on top.

    Args:
        plan: the plan.
        place: the place of the run.
        server: its server, started.
        first: the round.
    """
    algorithm = plan.algorithm
    block = first.blocks[0]
    items = [replace(block, survey=True), block] if algorithm.profile.surveys else [block]
    parts, alone = plan.broadcast(server, algorithm.transforms.start(server.vector.device))
    down = Broadcast(first.number, parts, plan.weight(first.cohort))
    with tempfile.TemporaryDirectory(prefix="fedray-plan-") as folder:
        task = replace(plan.task, data=plan.task.data.probe())
        addressed = Addressed(Path(folder) / FOLDER, algorithm.addressed)
        addressed.begin(first.number, alone)
        executor = InlineExecutor(Job(task, algorithm, Path(folder), place.worker.threads), place.devices)
        try:
            for _ in range(2):
                executor.publish(down)
                reports = executor.run([addressed.with_rows(item) for item in items], lambda: False)
        finally:
            executor.close()
    assert reports is not None
    report, block_seconds = reports[-1], sum(report.seconds for report in reports)
    assert isinstance(report, BlockReport)
    steps = _steps(plan, first.number, block.clients)
    work = _steps(plan, first.number, first.cohort) * plan.expected / len(first.cohort)
    seconds = max(block_seconds, block_seconds * work / steps / worker_count(place))
    return Pace(len(block.clients), steps, block_seconds, seconds, report.failures)


def _steps(plan: Plan, round: int, clients: Ints) -> int:
    """Count the local steps of some clients together in a round; a client that does none counts as one."""
    return int(np.maximum(plan.steps(round, clients), 1).sum())
