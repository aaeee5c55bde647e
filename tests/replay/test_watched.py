"""What is said of a step is what plain torch says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fedray.core.messages import Broadcast
from fedray.local.task import Stacking
from fedray.local.trainer import Trainer
from fedray.replay.recorded import Recorded
from fedray.replay.rounds import Replay
from fedray.replay.watched import SeenStep, Watched, own_code
from tests.replay.conftest import Train


def test_losses_and_norms_are_those_of_a_loop_by_hand(train: Train) -> None:
    plan = Replay(Recorded.read(train("local.optimizer.momentum=0"))).plan(1)
    task = replace(plan.task, stacking=Stacking(1, False, "alone"))
    made: list[Watched] = []

    def make(task, devices):  # type: ignore[no-untyped-def]
        made.append(Watched(task, task.model_fn(), devices))
        return made[-1]

    module = task.model_fn()
    vector = task.layout.pack(dict(module.state_dict()))
    trainer = Trainer(task, [torch.device("cpu")], make)
    trainer.train(np.array([2]), Broadcast(1, {"model": vector}, 1.0), {})
    rows = task.data.rows(np.array([2]))
    x, y = rows.take(np.arange(12)[None, :])
    params = list(module.parameters())
    assert len(made[0].seen) == 3
    for one in made[0].seen:
        loss = torch.nn.functional.cross_entropy(module(x[0][one.examples]), y[0][one.examples])
        grads = torch.autograd.grad(loss, params)
        norm = float(torch.cat([grad.flatten() for grad in grads]).norm())
        with torch.no_grad():
            for parameter, grad in zip(params, grads, strict=True):
                parameter.sub_(0.1 * grad)
            after = float(torch.cat([parameter.flatten() for parameter in params]).norm())
        np.testing.assert_allclose(
            [one.loss, one.gradient, one.change, one.params], [float(loss.detach()), norm, 0.1 * norm, after], rtol=1e-4
        )


class Own(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class OwnLoss(nn.Module):
    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).abs().mean()


def own_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target).abs().mean()


def test_the_debugger_goes_on_to_code_that_is_neither_torchs_nor_fedrays() -> None:
    plain = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    assert own_code(Own(), nn.functional.mse_loss) is Own.forward
    assert own_code(nn.Sequential(nn.Linear(2, 1), Own()), own_loss) is Own.forward
    assert own_code(plain, own_loss) is own_loss
    assert own_code(plain, OwnLoss()) is OwnLoss.forward
    assert own_code(plain, nn.MSELoss()) is own_code(plain, print) is None


def test_numbers_that_are_none_are_null_in_json() -> None:
    step = SeenStep(1, 2, [3], [5], float("nan"), float("inf"), 0.5, 1.0).to_json()
    assert (step["loss"], step["gradient"], step["change"], step["examples"]) == (None, None, 0.5, [3])
    assert step["rows"] == [5]
