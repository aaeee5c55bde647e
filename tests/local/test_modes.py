"""A part that its builder set to evaluation stays in it, in training, in a stack, and in the trials before a run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fedray.local.modes import train_mode
from fedray.local.task import Stacking
from tests.helpers import class_problem, local_task, train


class Watched(nn.Dropout):
    """Dropout that says when it drops."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return super().forward(x)


def test_what_was_built_in_evaluation_is_not_trained() -> None:
    def build() -> nn.Module:
        return nn.Sequential(Watched(), nn.BatchNorm1d(6).eval(), nn.Linear(6, 3))

    task = local_task(class_problem((6, 6), model_fn=build), stack="off")
    delta = train(task, [0, 1]).parts["delta"]
    assert delta.any()
    assert not delta[:, task.layout.trained :].any()  # the statistics


def test_a_stack_keeps_modes_too() -> None:
    task = local_task(class_problem((6, 6), model_fn=lambda: nn.Sequential(Watched(), nn.Linear(6, 3))), stack=2)
    stacked = train(replace(task, stacking=Stacking(2, True, "")), [0, 1])
    plain = local_task(class_problem((6, 6), model_fn=lambda: nn.Sequential(nn.Identity(), nn.Linear(6, 3))), stack=2)
    assert torch.allclose(stacked.parts["delta"], train(plain, [0, 1]).parts["delta"], rtol=0, atol=1e-6)


def test_parts_inside_a_part_keep_theirs_and_a_models_own_train_is_asked() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[1].eval()
            return self

    model = Frozen(nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval(), nn.BatchNorm1d(2))
    model[0][1].train()  # type: ignore[index]
    train_mode(model)
    assert [part.training for part in model.modules()] == [True, False, False, True, False]
