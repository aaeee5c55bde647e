"""The loops by hand are the least that algorithms cost, so they must be those algorithms."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

import fedray
from benchmarks.algorithms import ALGORITHMS
from benchmarks.floors import BLOCKS, Floor
from benchmarks.models import tiny_model
from benchmarks.workloads import Workload
from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import PERSONAL, Broadcast
from fedray.local.trainer import Trainer
from tests.helpers import Problem, local_task

SMALL = Workload("small", tiny_model, (64,), clients=12, examples=8, cohort=5, batch=8, lr=0.1)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_loop_by_hand_sends_what_the_engine_sends(name: str) -> None:
    torch.manual_seed(0)
    floor = Floor(SMALL, block=5)
    owners = torch.arange(SMALL.clients).repeat_interleave(SMALL.examples)
    data = fedray.FederatedData.from_arrays(floor.x, floor.y, owners)
    problem = Problem(tiny_model, cross_entropy, data)
    args, program = LocalSection(1, SMALL.batch), ALGORITHMS[name][0]["algorithm"]
    task = local_task(problem, stack=5, optimizer=optim.SGD(SMALL.lr), args=args, program=program)
    torch.manual_seed(1)
    clients = floor.clients().numpy()
    torch.manual_seed(1)
    BLOCKS[name](floor)

    down = {"model": floor.start} | ({"control": torch.zeros_like(floor.start)} if name == "SCAFFOLD" else {})
    new = {name: torch.zeros(5, field.width) for name, field in task.profile.keeps.items()}
    new |= {PERSONAL: torch.zeros(5, task.layout.personal)} if task.layout.personal else {}
    nobody = torch.zeros(5, dtype=torch.bool)
    update = Trainer(task, [torch.device("cpu")]).train(clients, Broadcast(1, down, 1.0), new, known=nobody)
    wanted = sum(part.sum(dim=0) for part in update.parts.values())
    assert isinstance(wanted, torch.Tensor)
    assert torch.allclose(floor.total[: len(wanted)], wanted, atol=1e-5)
