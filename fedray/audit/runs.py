"""A run of a plan in this process that leaves nothing behind but what it is looked at by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.models.prototype import last_of
from fedray.run.executor import InlineExecutor
from fedray.run.loop import Rounds
from fedray.run.plan import Plan
from fedray.run.snapshot import first_state
from fedray.run.worker import Job, devices_of
from fedray.rundir.client_state import ClientStore

HERE = [
    "cluster.name=inline",
    "tracking=[]",
    "failures.block_timeout=null",
    "driver.gpus=0",
    "worker.gpus=0",
    "worker.ranks=1",
]
"""Changes of a config, so that its runs are done in this process."""

MakeExecutor = Callable[[Job, Sequence[torch.device]], InlineExecutor]


def check_whole(plan: Plan) -> None:
    """Raise ConfigError if updates are not of the whole model."""
    if plan.task.fragments is not None:
        raise ConfigError(
            f"algorithm: clients of {plan.algorithm.name} send a fragment of the model, another one in each round, and "
            "whole updates are looked at here: take an algorithm without fragments"
        )


def run(
    plan: Plan,
    place: Path,
    threads: int,
    executor: MakeExecutor = InlineExecutor,
    told: Callable[[int, Tensor], None] = lambda round, vector: None,
    recorded: Callable[[RoundRecord], object] = lambda record: None,
) -> Tensor:
    """Do the rounds of a plan, and return a copy of the model at their end, ``[P]``.

    Args:
        plan: the run.
        place: an empty folder.
        threads: those of torch.
        executor: makes what does the work.
        told: is given the model before the first round (0) and after each, valid until the next.
        recorded: is given the record of each round.

    Raises:
        RunFailed: a round cannot go on.
    """
    state_folder = place / "state"
    state_folder.mkdir()
    job = Job(plan.task, plan.algorithm, state_folder, threads)
    with contextlib.closing(executor(job, devices_of(0))) as doing:
        vector = doing.global_vector(plan.layout.size)
        vector.copy_(plan.layout.pack(dict(last_of(plan.task.model_fn).state_dict())))
        state = first_state(plan, vector, ClientStore(state_folder, job.state_fields()))
        told(0, state.vector)
        for record in Rounds(plan, state, doing, lambda state: None):
            told(record.round, state.vector)
            recorded(record)
        return state.vector.detach().cpu().clone()
