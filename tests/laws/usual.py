"""The run of an algorithm that the laws look at in different ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fedray.algorithms.base import Algorithm
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.record import VIEWS, RoundRecord
from fedray.local.stacking import Stack
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation

# Cohorts of half of nine unequal clients, one of them without held-out rows; in stacks of two they are three blocks.
PROBLEM = class_problem((7, 3, 12, 9, 1, 6, 5, 8, 4), test=20, holdout=0.3)
EVALUATE = EvaluateSection(1, 2, finetune={"steps": 1}, before=True)
ROUNDS = 3
# Five clients are a piece of an evaluation, which shows in the last bits of those that are fine-tuned in a stack.
PIECES = ("fedray.run.plan._HOLDOUT_CLIENTS", 5)


def usual(folder: Path, algorithm: Algorithm, stack: Stack = 2) -> Federation:
    """Return the run that the laws look at: evaluated before the first round, and after the second and the third."""
    return federation(
        PROBLEM,
        folder,
        algorithm,
        args=LocalSection(1, 4),
        sampler=Uniform(5),
        rounds=ROUNDS,
        stack=stack,
        evaluate=EVALUATE,
        checkpoint_every=1,
    )


def told(records: list[RoundRecord]) -> list[list[Any]]:
    """Return what must not depend on where a run trained."""
    names = ("round", "model_sha256", "train", "test", *VIEWS.values(), "evaluated", "clients", "metrics")
    return [[getattr(record, name) for name in names] for record in records]


@dataclass(frozen=True)
class Ran:
    """A run after its end.

    Args:
        kept: the model, what clients remember and, as ``evaluated``, the models that they are evaluated with.
    """

    run: Federation
    records: list[RoundRecord]
    kept: dict[str, Tensor]


Runs = Callable[[Algorithm, Stack], Ran]
