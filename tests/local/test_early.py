"""Steps within the backward pass: the bits of steps after it, with one gradient in memory, or no such steps at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fedray.local.sequential as sequential
from fedray import optim
from fedray.config.sections import LocalSection
from fedray.local.early import EarlySteps, ends_with_gradients
from fedray.local.task import LocalTask
from fedray.optim import OptimizerFn
from fedray.optim.base import steps_apart
from tests.helpers import class_problem, local_task, train


class Doubled(torch.autograd.Function):
    """Keeps the weight where nobody sees it, and reads it in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight
        return 2.0 * x @ weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return 2.0 * grad @ ctx.weight.T, None


class Layers(nn.Module):
    """Six inputs to three outputs; ``way`` says how its hidden layer is used."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.hidden, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.unused = nn.Parameter(torch.ones(2))
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x, weight = torch.tanh(self.first(x)), self.hidden.weight
        match self.way:
            case "tied":
                x = torch.tanh(self.hidden(torch.tanh(self.hidden(x))))
            case "detached":
                x = self.hidden(torch.tanh(x @ weight.detach()))
            case "data":
                x = self.hidden(torch.tanh(x @ weight.data))
            case "own":
                x = self.hidden(torch.tanh(Doubled.apply(x, weight.detach())))  # type: ignore[no-untyped-call]
            case "reentrant" | "again":
                for _ in range(2):
                    x = checkpoint(self._part, x, use_reentrant=self.way == "reentrant")
            case _:
                x = self._part(x)
        out: Tensor = self.last(x)
        return out

    def _part(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(x))


WAYS = ["plain", "tied", "detached", "data", "own", "reentrant", "again"]
SURE = ["plain", "tied"]


def problem(way: str, optimizer: OptimizerFn, **args: Any) -> LocalTask:
    return local_task(
        class_problem((7, 5), model_fn=lambda: Layers(way)),
        optimizer=optimizer,
        args=LocalSection(2, 3, **args),
        stack=1,
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("optimizer", [optim.SGD(0.3, momentum=0.9, weight_decay=0.1), optim.Adam(0.1)])
def test_models_are_bitwise_those_of_steps_after_the_backward_pass(
    way: str, optimizer: OptimizerFn, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = problem(way, optimizer)
    expected = train(task, [0, 1])
    monkeypatch.setattr(sequential, "LARGE", 1)
    got = train(task, [0, 1])
    assert torch.equal(got.parts["delta"], expected.parts["delta"])
    assert got.loss.tolist() == expected.loss.tolist()


@pytest.mark.parametrize("way", WAYS)
def test_a_tensor_moves_alone_with_no_other_gradient_in_memory_where_nothing_reads_it_later(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model = Layers(way)
    tensors = list(model.parameters())
    optimizer, held = optim.SGD(0.1)(tensors), list[int]()
    step = type(optimizer).step

    def counted(self: Any) -> None:
        held.append(sum(tensor.grad is not None for tensor in tensors))
        step(self)

    monkeypatch.setattr(type(optimizer), "step", counted)
    early = EarlySteps(optimizer, tensors)
    loss = model(torch.randn(4, 6)).square().sum()
    assert ends_with_gradients(loss, tensors) == (way in SURE)
    with early.watching():
        early.backward(loss)
    assert held == ([1] * 6 if way in SURE else [])
    assert sum(tensor.grad is not None for tensor in tensors) == (0 if way in SURE else 6)
    loss = model(torch.randn(4, 6)).square().sum()
    loss.backward()
    assert sum(tensor.grad is not None for tensor in tensors) == 6, "outside of the context nothing moves"


@pytest.mark.parametrize("way", ["detached", "data", "own"])
def test_a_model_that_is_refused_would_have_had_other_gradients(way: str) -> None:
    """The oracle of the refusal: what becomes of such a model whose tensors move as soon as they can."""
    found = []
    for early in (False, True):
        torch.manual_seed(1)
        model = Layers(way)
        tensors = list(model.parameters())
        steps = EarlySteps(optim.SGD(0.5)(tensors), tensors)
        loss = model(torch.randn(4, 6)).square().sum()
        with steps.watching():
            steps._going = early
            try:
                loss.backward()
            except RuntimeError as error:
                assert "modified by an inplace operation" in str(error)  # noqa: PT017
                return
        steps._optimizer.step()
        found.append(model.first.weight.detach().clone())
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    ("args", "early"),
    [({}, True), ({"clip_grad_norm": 1.0}, False), ({"accumulate": 2}, False)],
)
def test_where_all_gradients_are_needed_at_once_they_are_there(
    args: dict[str, Any], early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[object] = []
    monkeypatch.setattr("fedray.local.early.ends_with_gradients", lambda *asked: bool(passes.append(asked)))  # type: ignore[func-returns-value]
    monkeypatch.setattr(sequential, "LARGE", 1)
    train(problem("plain", optim.SGD(0.1), **args), [0, 1])
    assert bool(passes) == early


def test_small_models_and_optimizers_of_the_users_own_step_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EarlySteps, "backward", lambda self, loss: pytest.fail("stepped early"))
    train(problem("plain", optim.SGD(0.1)), [0])
    monkeypatch.setattr(sequential, "LARGE", 1)
    train(problem("plain", lambda parameters: torch.optim.SGD(parameters, lr=0.1)), [0])
    tensors = [torch.zeros(1, requires_grad=True)]
    assert steps_apart(optim.Adam()(tensors))
    assert not steps_apart(torch.optim.Adam(tensors))
