"""Gradients are clipped client by client, alone and in a stack, as torch's utility clips those of a model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fedray
from fedray.algorithms import FedProx, Scaffold
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.messages import Broadcast
from fedray.local.clients import Clients
from fedray.local.clipping import clip_module, clip_rows
from fedray.local.program import ClientProgram
from fedray.optim import SGD, Adam, OptimizerFn
from tests.helpers import class_problem, local_task, relative, train

PROBLEM = class_problem((7, 3, 12, 9))
SHAPES = [(4, 3), (3,), (2, 2, 2), (1,)]


@given(st.integers(0, 99), st.integers(1, 5), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_row_is_what_torch_makes_of_it_alone(seed: int, clients: int, most: float, scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    grads = [scale * torch.randn(clients, *shape, generator=draw) for shape in SHAPES]
    found = clip_rows(grads, most)
    for row in range(clients):
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad[row].clone()
        clip_module(parameters, most)
        for parameter, one in zip(parameters, found, strict=True):
            torch.testing.assert_close(one[row], parameter.grad, rtol=1e-6, atol=0.0)


def test_below_the_norm_not_a_bit_changes_and_one_client_does_not_feel_the_others() -> None:
    grads = [torch.tensor([[0.3, 0.4], [30.0, 40.0], [math.nan, 1.0]])]
    (found,) = clip_rows(grads, 1.0)
    assert torch.equal(found[0], grads[0][0])
    assert found[1].norm() == pytest.approx(1.0, rel=1e-6)
    assert found[2].isnan().all()
    assert clip_rows(grads, None) is grads


def by_hand(client: int, most: float, make: OptimizerFn) -> Tensor:
    """One epoch in one batch, in plain torch."""
    module = PROBLEM.model_fn()
    start = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    optimizer = make(module.parameters())
    rows = PROBLEM.data.rows(torch.tensor([client]).numpy())
    size = int(PROBLEM.data.sizes[client])
    x, y = rows.take(torch.arange(size)[None].numpy())
    for _ in range(3):
        optimizer.zero_grad()
        PROBLEM.loss_fn(module(x[0]), y[0]).backward()
        nn.utils.clip_grad_norm_(module.parameters(), most)
        optimizer.step()
    return nn.utils.parameters_to_vector(module.parameters()).detach() - start


@pytest.mark.parametrize("optimizer", [SGD(0.5), SGD(0.1, momentum=0.9), Adam(0.01)], ids=repr)
@pytest.mark.parametrize("stack", [4, "off"])
def test_training_is_the_loop_that_torch_users_write(optimizer: OptimizerFn, stack: Any) -> None:
    args = LocalSection(3, None, clip_grad_norm=0.05)
    task = local_task(PROBLEM, args=args, stack=stack, optimizer=optimizer)
    update = train(task, [2, 3, 0, 1])
    for row, client in enumerate([2, 3, 0, 1]):
        assert relative(update.parts["delta"][row], by_hand(client, 0.05, optimizer)) <= 1e-5
    free = train(replace(task, args=replace(args, clip_grad_norm=None)), [2, 3, 0, 1])
    assert relative(update.parts["delta"], free.parts["delta"]) > 1e-2


@pytest.mark.parametrize("algorithm", [FedProx(mu=0.5), Scaffold()], ids=lambda one: one.name)
def test_stacked_is_alone_with_algorithms_that_change_gradients(algorithm: Any) -> None:
    updates = []
    for stack in (4, "off"):
        args = LocalSection(2, 4, clip_grad_norm=0.1)
        task = local_task(PROBLEM, args=args, stack=stack, program=algorithm)
        vector = task.layout.pack(dict(PROBLEM.model_fn().state_dict()))
        state = {name: torch.full((4, task.layout.trained), 0.01) for name in task.profile.keeps}
        sent = {name: torch.full((task.layout.trained,), 0.02) for name in task.receives}
        updates.append(train(task, [2, 3, 0, 1], Broadcast(1, {"model": vector, **sent}, 1.0), state))
    for name, part in updates[0].parts.items():
        assert relative(part, updates[1].parts[name]) <= 1e-5, name


class Huge(ClientProgram):
    """Adds more than the norm allows."""

    def client(self, c: Clients) -> None:
        c.fit(gradient=lambda step, grad: grad.add_(100.0))


@pytest.mark.parametrize("stack", [4, "off"])
def test_what_the_algorithm_adds_is_clipped_too(stack: Any) -> None:
    args = LocalSection(1, None, clip_grad_norm=0.5)
    update = train(local_task(PROBLEM, args=args, stack=stack, optimizer=SGD(1.0), program=Huge()), [2, 3, 0, 1])
    assert update.parts["delta"].norm(dim=1).tolist() == pytest.approx([0.5] * 4, rel=1e-5)


def test_a_model_that_does_not_stack_is_not_stacked_because_gradients_are_clipped() -> None:
    """A trial whose gradients were clipped would not see that one is twice as long."""

    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 3)
            self.drop = nn.Dropout(0.0)  # no batched product of fedray's own

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.drop(self.inner(x))
            stacked = torch._C._functorch.is_batchedtensor(self.inner.weight)
            return output + (output - output.detach()) if stacked else output  # the same, of twice the gradient

    problem = class_problem((7, 3, 12, 9), model_fn=Wrong)
    task = local_task(problem, args=LocalSection(1, 4, clip_grad_norm=1e-3), stack=2)
    assert "stacked is not what it is alone" in task.stacking.reason


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_a_norm_is_above_zero(wrong: float) -> None:
    with pytest.raises(ConfigError, match=rf"^local: clip_grad_norm={wrong}: it must be above 0, or null for no limit"):
        fedray.TrainArgs(clip_grad_norm=wrong)
