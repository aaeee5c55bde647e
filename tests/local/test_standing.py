"""Other tensors in a module's places, while it runs and where a backward runs it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from fedray.algorithms import FedSAM, PerFedAvg
from fedray.core.messages import DELTA
from fedray.local.standing import Standing
from fedray.local.task import Stacking
from tests.helpers import local_task, relative, train
from tests.local.test_in_lanes import Reads, reading


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.norm(self.first(x)))
        return found


def test_a_module_runs_at_other_tensors_as_functional_call_runs_it() -> None:
    module, x = Tied(), torch.randn(4, 3)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    other = {name: one + 1 for name, one in own.items()}
    wanted = functional_call(module, {name: one.clone() for name, one in other.items()}, (x,))
    standing = Standing(module)
    with standing.of(other):
        assert torch.equal(module(x), wanted)
        with standing.of(own):
            assert module.last.weight is module.first.weight is own["first.weight"]
        assert module.last.weight is other["first.weight"]
    assert standing.at is None
    assert all(one is own[name] for name, one in module.named_parameters())
    assert all(one is own[name] for name, one in module.named_buffers())


@pytest.mark.parametrize("program", [FedSAM(rho=0.5), PerFedAvg()])
def test_a_gradient_at_other_parameters_is_right_where_activations_are_computed_again(program: Any) -> None:
    found = []
    for again in (None, False):
        task = local_task(reading(lambda again=again: Reads(0.4, again)), stack="off", program=program)  # type: ignore[misc]
        found.append(train(replace(task, stacking=Stacking(1, False, "")), range(4)).parts[DELTA])
    assert relative(found[1], found[0]) < 1e-5
