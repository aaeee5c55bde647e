"""Clients that step at once in lanes: each row is its client alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import BlockUpdate, Broadcast
from fedray.local.in_lanes import LanesStepper
from fedray.local.stacking import decide
from fedray.local.steppers import stepper_for
from fedray.local.task import LocalTask, Stacking
from tests.helpers import Problem, class_problem, local_task, relative, train
from tests.laws.test_rows import spoilt
from tests.local.lane_models import Decoder

CPU = torch.device("cpu")
SIZES = (9, 7, 5, 1)


class Reads(nn.Module):
    """A decoder that says a class; it computes its layers again in a backward if ``again`` says how."""

    def __init__(self, dropout: float = 0.0, again: bool | None = None) -> None:
        super().__init__()
        self.body, self.head, self.again = Decoder(11, 8, 6, dropout), nn.Linear(11, 3), again

    def forward(self, ids: Tensor) -> Tensor:
        if self.again is None:
            x = self.body(ids)
        else:
            first = (self.body.token(ids) + self.body.place(torch.arange(ids.shape[1]))).requires_grad_()
            for layer in self.body.layers:
                first = checkpoint(layer, first, use_reentrant=self.again)
            x = self.body.head(first)
        found: Tensor = self.head(x.mean(dim=1))
        return found


def reading(build: Callable[[], nn.Module] = Reads, sizes: tuple[int, ...] = SIZES) -> Problem:
    return class_problem(sizes, (6,), 3, build, vocabulary=11)


def in_lanes(problem: Problem, **options: Any) -> LocalTask:
    task = local_task(problem, stack="lanes:4", **options)  # type: ignore[arg-type]
    assert task.stacking.lanes is not None, task.stacking.reason
    assert isinstance(stepper_for(task, [CPU]), LanesStepper)
    return task


def alone(task: LocalTask, clients: Any) -> BlockUpdate:
    return train(replace(task, stacking=Stacking(1, False, "")), clients)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("build", "options"),
    [
        pytest.param(lambda: Reads(0.4), {"optimizer": optim.SGD(0.1, momentum=0.9)}, id="dropout"),
        pytest.param(
            lambda: Reads(0.4),
            {"args": LocalSection(2, 2, accumulate=2, clip_grad_norm=0.05, last_batch="merge")},
            id="pieces",
        ),
        # Of gradients that are nearly zero Adam makes steps of rounding, which its eps keeps small.
        pytest.param(
            Reads, {"optimizer": optim.AdamW(0.01, eps=1e-2), "args": LocalSection(2, 4, keep_optimizer=True)}
        ),
        pytest.param(lambda: Reads(0.4, again=False), {}, id="computed again"),
        pytest.param(lambda: Reads(0.4, again=True), {"args": LocalSection(2, 4)}, id="the old way"),
    ],
)
@pytest.mark.one_in(2)
def test_each_row_is_its_client_alone(build: Callable[[], nn.Module], options: dict[str, Any]) -> None:
    task = in_lanes(reading(build), **options)
    together, apart = train(task, range(4)), alone(task, range(4))
    assert relative(together.parts["delta"], apart.parts["delta"]) <= 1e-5
    np.testing.assert_allclose(together.loss, apart.loss, rtol=1e-4)


def test_a_client_without_numbers_leaves_the_others_as_they_were() -> None:
    problem = class_problem(SIZES)
    task = in_lanes(problem)
    whole = train(task, range(4)).parts["delta"].clone()
    broken = train(replace(task, data=spoilt(problem, 1).data), range(4)).parts["delta"]
    assert not broken[1].isfinite().all()
    others = [0, 2, 3]
    assert torch.equal(broken[others], whole[others])


def test_buffers_come_from_the_broadcast_and_those_that_a_model_writes_are_named() -> None:
    class Shifted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 6)
            self.requires_grad_(False)
            self.register_buffer("shift", torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.get_buffer("shift")

    class Writes(Shifted):
        def forward(self, x: Tensor) -> Tensor:
            self.get_buffer("shift").add_(1.0)
            return super().forward(x)

    def model(part: type[nn.Module]) -> Callable[[], nn.Module]:
        return lambda: nn.Sequential(part(), nn.Linear(6, 3))

    task = in_lanes(class_problem(SIZES, model_fn=model(Shifted)))
    moved = task.layout.pack(dict(task.model_fn().state_dict()))
    moved[task.layout.trained :] = 5.0
    apart = replace(task, stacking=Stacking(1, False, ""))
    together, other = (
        train(one, range(4), Broadcast(1, {"model": moved}, 1.0)).parts["delta"].clone() for one in (task, apart)
    )
    assert relative(together, other) <= 1e-5
    assert relative(together, train(task, range(4)).parts["delta"]) > 0.1

    writes = local_task(class_problem(SIZES, model_fn=model(Writes)), stack="lanes")
    assert not writes.stacking.stacked
    assert "the model writes 0.shift, which clients in lanes have in common" in writes.stacking.reason


@pytest.mark.parametrize(
    ("build", "options", "why"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), {}, "batch statistics in 1"),
        (lambda: nn.Bilinear(6, 6, 3), {}, "not in lanes: weight: Bilinear is not known in lanes"),
        (None, {"optimizer": torch.optim.LBFGS}, "LBFGS is not known to be elementwise"),
    ],
)
def test_what_does_not_run_in_lanes_says_why_and_goes_one_by_one(
    build: Callable[[], nn.Module] | None, options: dict[str, Any], why: str
) -> None:
    stacking = local_task(class_problem(SIZES, model_fn=build), stack="lanes", **options).stacking
    assert (stacking.size, stacking.stacked) == (1, False)
    assert why in stacking.reason


class Masked(nn.Module):
    """Looks at the values of its inputs, as transformers does at a mask's, above a frozen base or one that trains."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.base, self.out = nn.Linear(6, 12), nn.Linear(12, 3)
        self.base.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.base(x if bool((x > -100).all()) else x.abs()).tanh())
        return found


class Padded(nn.Module):
    """Tokens, one of which is padding, in a table that trains: vmap gives its row a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(6, 8, padding_idx=0), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.table((2 * x.abs()).long().clamp(max=5)).mean(dim=-2).tanh())
        return found


def test_auto_takes_lanes_where_vmap_trains_another_model() -> None:
    task = local_task(class_problem((9,) * 20, model_fn=Padded), stack="off")
    assert decide(task, 4, 20, "cpu").reason.endswith("stacked is not what it is alone")
    found = decide(task, "auto", 20, "cpu")
    assert found.lanes is not None, found.reason


def test_auto_takes_lanes_over_a_frozen_base_and_where_vmap_does_not_run() -> None:
    def decided(build: Callable[[], nn.Module]) -> Stacking:
        task = local_task(class_problem((9,) * 20, model_fn=build), stack="off")
        found = decide(task, "auto", 20, "cpu")
        assert found == decide(task, "auto", 20, "cpu")  # counted, so that it repeats
        return found

    for frozen in (True, False):
        found = decided(lambda frozen=frozen: Masked(frozen))  # type: ignore[misc]
        assert found.lanes is not None, found.reason
        assert found.size == 10
    trains = decided(lambda: nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)))
    assert trains.stacked
    assert trains.lanes is None
    task = local_task(class_problem(SIZES, model_fn=lambda: Masked(False)), stack=4)
    assert not task.stacking.stacked  # a number asks for vmap
