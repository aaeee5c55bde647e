"""One client at a time, in the module itself: any optimizer, any model, and nothing left for the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fedray.config.sections import LocalSection
from fedray.core.messages import Broadcast
from fedray.local.sequential import SequentialStepper
from fedray.local.task import Sharing
from tests.helpers import class_problem, local_task, relative, train


def test_other_random_layers_repeat_and_leave_the_global_generator_alone() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x + 0.5 * torch.randn_like(x))
            return out

    task = local_task(class_problem((6, 6), model_fn=Noisy), stack=2)
    assert not task.stacking.stacked
    assert "vmap" in task.stacking.reason
    before = torch.get_rng_state()
    first, again = train(task, [0, 1]), train(task, [1, 0])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.parts["delta"], again.parts["delta"].flip(0))
    model = task.layout.pack(dict(task.model_fn().state_dict()))
    later = train(task, [0, 1], Broadcast(2, {"model": model}, 1.0))
    assert relative(later.parts["delta"], first.parts["delta"]) > 1e-2


def test_each_step_is_an_ordinary_one_of_the_users_optimizer() -> None:
    """Also of one that looks at more than gradients, which no stack could take."""
    calls: list[int] = []

    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            calls.append(sum(p.numel() for group in self.param_groups for p in group["params"]))
            return super().step(closure)

    task = local_task(
        class_problem((7, 3)),
        optimizer=lambda parameters: Counting(parameters, lr=0.1),
        args=LocalSection(2, 4),
        stack=1,
    )
    train(task, [0, 1])
    assert calls == [task.layout.trained] * (2 * 2 + 2 * 1)


def test_what_a_model_remembers_of_a_client_does_not_reach_the_next() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.seen.append(x.detach().mean())
            out: Tensor = self.layer(x) + torch.stack(self.seen).sum() if self.seen else self.layer(x)
            return out

    task = local_task(class_problem((6, 6), model_fn=Remembering), stack=1)
    one, other = train(task, [0, 1]), train(task, [1, 0])
    assert torch.equal(one.parts["delta"], other.parts["delta"].flip(0))


def test_several_devices_are_one_up_to_rounding_and_the_row_is_on_the_first() -> None:
    task = local_task(class_problem((9,)), args=LocalSection(1, 4), stack=1)
    cpu = torch.device("cpu")
    steppers = [SequentialStepper(task, task.model_fn(), [cpu] * count) for count in (1, 3)]
    assert [len(stepper._others) for stepper in steppers] == [0, 2]
    shared = replace(task, sharing=Sharing(3))
    assert relative(train(shared, [0], devices=[cpu] * 3).parts["delta"], train(task, [0]).parts["delta"]) <= 1e-5
