"""Batches leave padding out, and go through the model in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import BlockUpdate
from fedray.local.batches import Batch, Batches, Trace
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.schedule import Schedule
from fedray.local.step import Step
from tests.helpers import class_problem, local_task, relative, train
from tests.local.test_clients import PROGRAMS, Dropping


def test_a_mean_leaves_padding_out() -> None:
    share = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    batch = Batch(torch.zeros(2, 3, 1), torch.zeros(2, 3), np.array([2, 1]), share)
    assert batch.mean(torch.tensor([[1.0, 3.0, 9.0], [5.0, 9.0, 9.0]])).tolist() == [2.0, 5.0]


def test_the_course_of_a_fit_counts_steps_and_averages_over_examples() -> None:
    count = np.array([[4, 4, 1], [4, 0, 0]])
    trace = Trace(np.array([18.0, 2.0]), count, {"lr": 0.5}, torch.device("cpu"))
    assert trace.steps.tolist() == [[3.0], [1.0]]
    assert trace.loss.tolist() == [2.0, 0.5]
    assert trace.lr == 0.5


class Wide(nn.Module):
    """Notes the rows of each forward in training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Dropping()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            ROWS.append(len(x))
        out: Tensor = self.inner(x)
        return out


ROWS: list[int] = []


def plain(c: Clients) -> None:
    c.fit()


@pytest.mark.parametrize(
    ("program", "stack", "clip"),
    [
        # Each program with and without a bound, one of them in a stack; the others are slow.
        pytest.param(
            program,
            stack,
            clip,
            id=f"{clip}-{program.__name__}-{stack}",
            marks=pytest.mark.slow if (row + (clip is None) + (stack == "off")) % 2 else [],
        )
        for row, program in enumerate([plain, *PROGRAMS])
        for stack in (3, "off")
        for clip in (None, 0.05)
    ],
)
@pytest.mark.one_in(4)
def test_gradients_of_several_batches_are_those_of_the_larger_one(program: Any, stack: Any, clip: float | None) -> None:
    """With dropout, momentum, clients of 11, 6 and 3 examples, hooks and objectives; each fit in small pieces."""

    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            program(c)

    def trained(args: LocalSection) -> BlockUpdate:
        options: dict[str, Any] = {"optimizer": optim.SGD(0.1, 0.5), "stack": stack, "program": Own()}
        task = local_task(class_problem((11, 6, 3), model_fn=Wide), args=args, **options)
        ROWS.clear()  # of what was tried before
        return train(task, [0, 1, 2])

    whole = trained(LocalSection(2, 8, clip_grad_norm=clip))
    pieces = trained(LocalSection(2, 2, accumulate=4, clip_grad_norm=clip))
    assert relative(pieces.parts["delta"], whole.parts["delta"]) <= 1e-5
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)
    assert pieces.examples.tolist() == whole.examples.tolist()
    assert min(ROWS) <= 2
    if program not in PROGRAMS:
        assert max(ROWS) <= 2


@pytest.mark.parametrize("stack", [3, "off"])
def test_full_batches_go_through_in_so_many_pieces(stack: Any) -> None:
    def trained(args: LocalSection) -> BlockUpdate:
        task = local_task(class_problem((11, 6, 3), model_fn=Wide), args=args, stack=stack)
        ROWS.clear()
        return train(task, [0, 1, 2])

    whole = trained(LocalSection(2, "full"))
    pieces = trained(LocalSection(2, "full", accumulate=3))
    assert relative(pieces.parts["delta"], whole.parts["delta"]) <= 1e-5
    assert max(ROWS) == 4


def test_a_fresh_batch_of_a_piece_is_a_piece() -> None:
    rows: list[tuple[int, int]] = []

    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            def objective(step: Step) -> Tensor:
                rows.append((step.batch.x.shape[1], step.fresh_batch().x.shape[1]))
                return step.loss()

            c.fit(objective=objective)

    task = local_task(class_problem((8,)), args=LocalSection(1, 2, accumulate=4), stack="off", program=Own())
    train(task, [0])
    assert rows[-4:] == [(2, 2)] * 4, "the trial before has batches of its own"


def test_the_last_batch_is_taken_again_unless_somebody_wrote_into_it() -> None:
    problem = class_problem((4, 3))
    rows = problem.data.rows(np.array([0, 1]))
    schedule = Schedule(np.array([[[3, 1]], [[2, 0]]]), np.array([[2], [2]]))
    batches = Batches(rows, schedule, torch.device("cpu"))
    first = batches.at(0, 2)
    assert batches.at(0, 2) is first
    assert len(batches.at(0, 1).x) == 1
    again = batches.at(0, 2)
    assert again is not first
    again.x.mul_(0.0)
    assert torch.equal(batches.at(0, 2).x, first.x)
