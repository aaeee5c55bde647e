"""The examples of a trial: where a loss leaves out targets, such of which it counts something."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray.algorithms.base import Algorithm
from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.columns.ragged import Ragged
from fedray.local.clients import Clients
from fedray.local.few import Few
from fedray.local.step import Step
from fedray.tasks import TokenClassification
from tests.helpers import Problem, local_task, seeded, tried_task

LEFT_OUT = 2
LOSS = nn.CrossEntropyLoss(ignore_index=LEFT_OUT)


def problem(counted: Sequence[Sequence[int]], loss: Any = LOSS, size: int = 90) -> Problem:
    """Clients of ``size`` examples or fewer, the first the largest, in which these places alone have a class."""
    sizes = [size - client for client in range(len(counted))]
    x = np.random.default_rng(1).normal(size=(sum(sizes), 4)).astype("f4")
    y = np.full(len(x), LEFT_OUT)
    for start, places in zip(np.cumsum([0, *sizes]), counted, strict=False):
        y[start + np.array(places, dtype=np.int64)] = np.arange(len(places)) % 2
    return Problem(
        seeded(lambda: nn.Linear(4, 3)), loss, FederatedData.from_arrays(x, y, np.repeat(range(len(sizes)), sizes))
    )


def few(counted: Sequence[Sequence[int]], loss: Any = LOSS) -> tuple[list[int], list[int], list[list[int]]]:
    """The two clients, their examples, and the targets of these."""
    found = Few(tried_task(problem(counted, loss)), (7, 3))
    _, y = found.rows(found.pair).take(np.tile(np.arange(7), (2, 1)))
    sizes = found.sizes[found.pair].tolist()
    return found.pair.tolist(), sizes, [own[:size].tolist() for own, size in zip(y, sizes, strict=True)]


LOSSES = [
    LOSS,
    partial(functional.cross_entropy, ignore_index=LEFT_OUT),
    nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.0]), ignore_index=LEFT_OUT),  # no sum over positions
]


@pytest.mark.parametrize("loss", LOSSES, ids=["module", "function", "weighted"])
def test_examples_that_count_are_looked_for(loss: Any) -> None:
    assert few([[], [70, 80], [3], [5]], loss) == ([1, 2], [7, 3], [[0, 1, 0, 1, 0, 1, 0], [0, 0, 0]])
    assert few([[], [70, 80, 81]], loss) == ([1, 1], [7, 7], [[0, 1, 0, 0, 1, 0, 0]] * 2)


def test_those_that_come_first_are_taken_where_one_of_them_counts() -> None:
    two = LEFT_OUT
    assert few([[1], [2, 80]]) == ([0, 1], [7, 3], [[two, 0, *[two] * 5], [two, two, 0]])
    assert few([[1], [3], [0]])[0] == [0, 1], "the second has its first one behind those that are taken"
    assert few([[], [], []])[0] == [0, 1], "nothing counts anywhere"


def test_sequences_of_different_lengths() -> None:
    words, tags = [[1, 2, 3]] * 20 + [[1, 2]], [[LEFT_OUT] * 3] * 20 + [[0, 1]]
    x, targets = Ragged.of(words, multiple=2), Ragged.of(tags, pad=LEFT_OUT)
    data = FederatedData.from_arrays(x, targets, np.zeros(21, dtype=np.int64))
    task = tried_task(Problem(lambda: nn.Embedding(4, 2), TokenClassification(ignore_index=LEFT_OUT).loss_fn, data))
    found = Few(task, (7, 3))
    _, y = found.rows(found.pair).take(np.zeros((2, 1), dtype=np.int64))
    assert y[0, 0].tolist()[:2] == [0, 1]


@pytest.mark.parametrize("places", [range(80), range(40, 80)], ids=["all", "none of the first"])
def test_a_program_that_joins_clients_is_found_by_what_counts(places: Sequence[int]) -> None:
    class Joins(Algorithm):
        """Steps by the mean gradient of a block: without a gradient it is what each client does alone."""

        def client(self, c: Clients) -> None:
            def mean(step: Step, grad: Tensor) -> None:
                grad.copy_(grad.mean(dim=0).expand_as(grad))

            c.fit(gradient=mean)

    with pytest.raises(ConfigError, match=r"Joins.* stacked is not what it is alone"):
        local_task(problem([places] * 2), program=Joins(), stack=2)
