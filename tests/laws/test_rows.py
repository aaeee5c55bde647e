"""Clients of a block do not touch one another: what one of them does, the others never see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedray import FederatedData
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.core.fields import floats
from fedray.core.messages import PERSONAL, BlockUpdate, Broadcast
from fedray.core.rng import torch_generator
from fedray.local.task import LocalTask
from tests.helpers import Problem, class_problem, shared_task, train
from tests.laws.parts import ALGORITHMS, every

SIZES = (12, 9, 7, 5)


def spoilt(problem: Problem, client: int) -> Problem:
    """The same clients, of whom one has inputs that are no numbers."""
    data = problem.data
    taken = [data.rows(np.array([c])).take(np.arange(data.sizes[c])[None]) for c in range(len(data))]
    owner = np.repeat(np.arange(len(data)), data.sizes)
    x, y = (np.concatenate([pair[part][0].numpy() for pair in taken]) for part in range(2))
    data = FederatedData.from_arrays(x, y, owner)  # without a copy, and it refuses what is no number
    x[owner == client] = np.nan
    return replace(problem, data=data)


def stacked(problem: Problem, algorithm: Algorithm) -> LocalTask:
    """A task whose clients step in a stack."""
    task = shared_task(problem, program=algorithm, args=LocalSection(2, 4), stack=4)
    assert task.stacking.stacked, task.stacking.reason
    return task


def block(task: LocalTask) -> BlockUpdate:
    """A block of all clients, who remember something and have heard something."""
    draw = torch_generator(3, "local")
    told = {name: 0.1 * torch.randn(width, generator=draw) for name, width in task.receives.items()}
    told |= {
        name: 0.1 * torch.randn(len(SIZES), width, generator=draw) for name, width in task.addressed.items()
    }  # rows
    own = floats({PERSONAL: task.layout.personal} if task.layout.personal else {})
    kept = {
        name: (0.1 * torch.randn(len(SIZES), field.width, generator=draw)).to(field.dtype)
        for name, field in {**task.profile.keeps, **own}.items()
    }
    model = task.layout.pack(dict(task.model_fn().state_dict()))
    return train(task, range(len(SIZES)), Broadcast(1, {"model": model, **told}, 1.0), kept)


@every("algorithm", ALGORITHMS)
@pytest.mark.one_in(3)
def test_a_client_without_numbers_leaves_the_others_as_they_were(algorithm: Algorithm) -> None:
    problem = class_problem(SIZES)
    task = stacked(problem, algorithm)
    whole = block(task)
    for client in (0, 2):
        broken = block(replace(task, data=spoilt(problem, client).data))
        others = [c for c in range(len(SIZES)) if c != client]
        moved = [part[client] for part in (broken.parts["delta"], *broken.state.values())]
        assert not torch.isfinite(torch.cat(moved)).all()
        for name, part in whole.parts.items():
            assert torch.equal(broken.parts[name][others], part[others]), name
        for name, rows in whole.state.items():
            assert torch.equal(broken.state[name][others], rows[others]), name
        assert (broken.loss[others] == whole.loss[others]).all()
