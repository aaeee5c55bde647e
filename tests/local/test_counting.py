"""A loss that leaves out targets is a sum and a count: however a batch is cut, and whoever steps at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import Broadcast
from fedray.data import FederatedData
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.sharing import decide_sharing
from fedray.local.step import Step
from fedray.local.task import LocalTask
from fedray.tasks import TokenClassification
from tests.helpers import Problem, local_task, relative, seeded, train
from tests.local.lane_models import Decoder

CPU = torch.device("cpu")
NOTHING, LENGTH = 0, 6
COUNTED = ((6, 6, 0, 0, 1, 0, 2, 6), (1, 0, 0, 6, 6), (0, 0, 0))
"""The positions of each row of three clients that count: all, some, none."""


class Tagger(Decoder):
    """A decoder whose embedding vmap runs as it is, which knows no ``padding_idx``."""

    def __init__(self) -> None:
        super().__init__()
        self.token.padding_idx = None


LOSS = TokenClassification(ignore_index=NOTHING).loss_fn


class Weighed(ClientProgram):
    """An objective with the task's loss, and with means over rows and of no rows at all."""

    def client(self, c: Clients) -> None:
        def objective(step: Step) -> Tensor:
            out = step.forward()
            return step.loss(out) + 0.1 * step.mean(out.logits.square().mean(dim=(2, 3))) + 0.01 * step.params.sum(1)

        c.fit(objective=objective)


def columns() -> tuple[Any, Any, Any]:
    draw = np.random.default_rng(1)
    count = np.array([n for client in COUNTED for n in client])
    x = draw.integers(0, 11, (len(count), LENGTH))
    y = np.where(np.arange(LENGTH) < count[:, None], draw.integers(1, 11, x.shape), NOTHING)
    return x, y, np.repeat(np.arange(3), [len(client) for client in COUNTED])


def tagging(stack: Any, accumulate: int = 1, loss: Any = LOSS, **options: Any) -> LocalTask:
    """Clients that take one step with all of their rows, at a rate of 1: their updates are gradients."""
    problem = Problem(seeded(Tagger), loss, FederatedData.from_arrays(*columns()))
    args = LocalSection(1, "full", accumulate=accumulate)
    return local_task(problem, stack=stack, args=args, optimizer=optim.SGD(1.0), **options)


def by_hand(rows: list[int], each: Any = None) -> tuple[Tensor, float]:
    """Gradient and loss of some rows in float64: the sum over the positions that count, over their number."""
    x, y = (torch.from_numpy(column[rows]) for column in columns()[:2])
    module = seeded(Tagger)().double()
    logits = module(x)
    counts = y != NOTHING
    losses = functional.cross_entropy(logits.transpose(1, 2), y, reduction="none") * counts
    loss = losses.sum() / counts.sum().clamp(min=1) if each is None else each(losses, counts)
    found = torch.autograd.grad(loss, list(module.parameters()))
    return torch.cat([grad.flatten() for grad in found]), float(loss.detach())


def rows_of(client: int) -> list[int]:
    return np.flatnonzero(columns()[2] == client).tolist()


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("stack", [3, "lanes:3", "off"])
def test_the_gradient_of_a_batch_is_that_of_its_pieces(stack: Any, accumulate: int) -> None:
    task = tagging(stack, accumulate)
    assert (task.stacking.stacked, task.stacking.lanes is not None) == (stack != "off", stack == "lanes:3"), (
        task.stacking.reason
    )
    found = train(task, [0, 1, 2])
    for client in (0, 1):
        gradient, loss = by_hand(rows_of(client))
        assert relative(-found.parts["delta"][client].double(), gradient) < 1e-5
        assert found.loss[client] == pytest.approx(loss, rel=1e-5)
    assert found.parts["delta"][2].abs().max() == 0.0, "nothing of it counts"
    assert found.counted is not None
    assert (found.loss[2], found.counted.tolist(), found.examples.tolist()) == (0.0, [21, 13, 0], [8, 5, 3])


def test_a_mean_of_means_is_another_gradient() -> None:
    """The mean over rows of their own means, and that of pieces: so the tests above can fail."""

    def of_pieces(losses: Tensor, counts: Tensor, size: int) -> Tensor:
        pieces = zip(losses.split(size), counts.split(size), strict=True)
        return torch.stack([loss.sum() / count.sum().clamp(min=1) for loss, count in pieces]).mean()

    gradient, _ = by_hand(rows_of(0))
    for size in (1, 2, 4):
        assert relative(by_hand(rows_of(0), partial(of_pieces, size=size))[0], gradient) > 0.05


@pytest.mark.parametrize("stack", [3, "lanes:3", "off"])
def test_an_objective_adds_up_over_pieces_whatever_it_is_made_of(stack: Any) -> None:
    whole, pieces = (train(tagging(stack, accumulate, program=Weighed()), [0, 1, 2]) for accumulate in (1, 3))
    assert relative(pieces.parts["delta"], whole.parts["delta"]) < 1e-5
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_devices_share_a_batch_out(accumulate: int) -> None:
    task = tagging("off", accumulate)
    task = replace(task, sharing=decide_sharing(task, 3))
    assert task.sharing.devices == 3, task.sharing.reason
    model = Broadcast(1, {"model": task.layout.pack(dict(task.model_fn().state_dict()))}, 1.0)
    found = train(task, [0, 1, 2], model, devices=[CPU] * 3)
    for client in (0, 1):
        gradient, loss = by_hand(rows_of(client))
        assert relative(-found.parts["delta"][client].double(), gradient) < 1e-5
        assert found.loss[client] == pytest.approx(loss, rel=1e-5)
    assert found.parts["delta"][2].abs().max() == 0.0


class Transposed(nn.Module):
    """A decoder with its classes where torch's own losses look for them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Tagger()

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.inner(ids).transpose(1, 2)
        return found


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(ignore_index=NOTHING), partial(functional.cross_entropy, ignore_index=NOTHING)]
)
def test_losses_of_torch_with_an_ignore_index_are_cut_alike(loss: Any) -> None:
    problem = Problem(seeded(Transposed), loss, FederatedData.from_arrays(*columns()))
    options: dict[str, Any] = {"args": LocalSection(2, 2, accumulate=2), "optimizer": optim.SGD(0.1)}
    stacked, alone = (local_task(problem, stack=stack, **options) for stack in (3, "off"))
    assert stacked.stacking.stacked
    one, other = train(stacked, [0, 1, 2]), train(alone, [0, 1, 2])
    assert relative(one.parts["delta"], other.parts["delta"]) < 1e-5
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


@pytest.mark.parametrize("stack", [3, "off"])
def test_a_program_is_told_the_mean_over_all_positions_of_a_client(stack: Any) -> None:
    told: list[tuple[Tensor, Tensor]] = []

    class Asks(ClientProgram):
        def client(self, c: Clients) -> None:
            told.append((c.losses(), c.gradients()))
            c.fit()

    task = tagging(stack, program=Asks())
    told.clear()
    train(task, [0, 1, 2])
    losses, gradients = (torch.cat(found) for found in zip(*told, strict=True))
    for client in range(3):
        gradient, loss = by_hand(rows_of(client))
        assert float(losses[client]) == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(gradients[client].double(), gradient, rtol=1e-4, atol=1e-6)
