"""Fits of numbers that are no models: against plain torch, in a stack and alone, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import BlockUpdate
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.step import Step
from tests.helpers import class_problem, local_task, relative, train
from tests.local.test_clients import Dropping

SIZES = (11, 6, 3)
PROBLEM, DROPPING = class_problem(SIZES), class_problem(SIZES, model_fn=Dropping)


def update(program: Callable[[Clients], object], stack: Any, problem: Any = PROBLEM, **options: Any) -> BlockUpdate:
    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            program(c)

    args = LocalSection(2, 4, **options)
    task = local_task(problem, optimizer=optim.SGD(0.5, 0.5), args=args, stack=stack, program=Own())
    if stack == "off":
        found = [{n: p.clone() for n, p in train(task, [client]).parts.items()} for client in range(3)]
        joined = {name: torch.cat([parts[name] for parts in found]) for name in found[0]}
        none = np.zeros(3)
        return BlockUpdate(1, np.arange(3), joined, {}, none, none, none.astype(np.int64))
    assert task.stacking.stacked, task.stacking.reason
    return train(task, range(3))


def warmed(c: Clients) -> None:
    """A temperature and a shift of each class, learnt for the global model."""
    own = torch.cat([torch.ones(len(c), 1), torch.zeros(len(c), 3)], dim=1)

    def objective(step: Step) -> Tensor:
        out = step.forward(c.down["model"], train=False)
        logits = out.logits * step.params[:, :1, None] + step.params[:, None, 1:]
        return step.loss(out._replace(logits=logits)) + 0.1 * step.params.square().sum(dim=1)

    c.fit(own, epochs=3, objective=objective, gradient=lambda step, grad: grad.mul_(1.0 + c.sizes[step.rows, None]))
    c.fit()
    c.send("own", own)


def drawn(c: Clients) -> None:
    """Two models side by side in one fit, each where dropout draws, and mixed."""
    both = torch.cat([c.anchor.repeat(len(c), 1), 0.9 * c.anchor.repeat(len(c), 1)], dim=1)
    seen: list[float] = []

    def objective(step: Step) -> Tensor:
        first, second = step.params.tensor_split(2, dim=1)
        logits = [step.forward(model).logits for model in (first, second)]
        return step.loss(step.forward(first)._replace(logits=0.3 * logits[0] + 0.7 * logits[1]))

    def gradient(step: Step, grad: Tensor) -> None:
        grad.add_(0.1 * step.gradient(step.params + 0.1 * grad))

    trace = c.fit(both, objective=objective, gradient=gradient, after=lambda step: step.params.clamp_(-1, 1))
    seen.extend(trace.loss.tolist())
    c.fit()
    c.send("both", both)
    c.send("loss", trace.loss.float())


@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.3}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize("program", [warmed, drawn], ids=lambda program: program.__name__)
@pytest.mark.slow
def test_a_stack_is_what_each_client_is_alone(program: Callable[[Clients], object], options: dict[str, Any]) -> None:
    stacked, alone = (update(program, stack, DROPPING, **options).parts for stack in (3, "off"))
    for name, part in alone.items():
        assert relative(stacked[name], part) <= 1e-5
    plain = update(lambda c: c.fit(), "off", DROPPING, **options).parts["delta"]
    assert torch.equal(alone["delta"], plain), "the models are left as they are, and draw as they would"


@pytest.mark.parametrize("stack", [3, "off"])
def test_it_is_descent_on_the_numbers(stack: Any) -> None:
    def learnt(c: Clients) -> None:
        own = torch.zeros(len(c), 3)

        def objective(step: Step) -> Tensor:
            out = step.forward(c.down["model"])
            return step.loss(out._replace(logits=out.logits + step.params[:, None]))

        c.fit(own, steps=c.sizes.long() % 4 + 1, objective=objective, optimizer=optim.SGD(0.5))
        c.send("own", own)

    full = {"by_client": {str(client): {"batch_size": 11} for client in range(3)}}
    found = update(learnt, stack, **full).parts["own"]
    module = PROBLEM.model_fn()
    for client, size in enumerate(SIZES):
        x, y = PROBLEM.data.rows(np.array([client])).take(np.arange(size)[None])
        shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        for _ in range(size % 4 + 1):
            loss = functional.cross_entropy(module(x[0]).detach().double() + shift, y[0])
            (grad,) = torch.autograd.grad(loss, shift)
            shift = (shift - 0.5 * grad).detach().requires_grad_()
        assert relative(found[client].double(), shift.detach()) <= 1e-5


def refused(program: Callable[[Clients], object], problem: Any = PROBLEM) -> str:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        update(program, "off", problem)
    return str(raised.value)


def test_what_numbers_cannot_be_is_said() -> None:
    def of(**options: Any) -> Callable[[Clients], object]:
        return lambda c: c.fit(torch.zeros(len(c), 4), **options)

    def loss(step: Step) -> Tensor:
        return step.params.square().sum(dim=1)

    assert "a model for each of the block's clients" in refused(of())
    assert "fit(only=): it names tensors of a model, and [1, 4] are none" in refused(of(objective=loss, only="shared"))
    said = refused(of(objective=lambda step: step.loss()))
    assert "step.forward(): what this fit trains is no model: name one, step.forward(params)" in said
    assert "this one is [3, 4]" in refused(lambda c: c.fit(torch.zeros(3, 4), objective=loss))


def test_kept_optimizers_are_those_of_models(tmp_path: Any) -> None:
    def beside(c: Clients) -> None:
        c.fit(torch.ones(len(c), 2), objective=lambda step: step.params.square().sum(dim=1))
        c.fit()

    plain, both = (update(p, "off", keep_optimizer=True).parts["delta"] for p in (lambda c: c.fit(), beside))
    assert torch.equal(plain, both)


class Norming(nn.Module):
    """A model with running statistics, which only its own fits may move."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(x))
        return found


def test_running_statistics_stay() -> None:
    def program(c: Clients) -> None:
        before = c.model.clone()

        def objective(step: Step) -> Tensor:
            return step.loss(step.forward(c.anchor)) * step.params.sum(dim=1)

        c.fit(torch.ones(len(c), 2), objective=objective)
        assert torch.equal(c.model, before)
        c.fit()

    update(program, "off", class_problem((8, 8, 8), model_fn=Norming))
