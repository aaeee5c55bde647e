"""Stacked training is training each client alone, and both are what a plain PyTorch loop does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.rng import Stream
from fedray.data.spec import DataSpec
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.schedule import Schedule
from fedray.local.task import LocalTask, Stacking
from fedray.models import CNN, LSTM, MLP, ResNet18GN, Transformer
from fedray.optim import OptimizerFn
from tests.helpers import Problem, class_problem, local_task, relative, seeded, train

SIZES = (11, 9, 6, 4, 1)
IMAGE = DataSpec(shape=(1, 8, 8), outputs=3)
SEQUENCE = DataSpec(shape=(5, 3), outputs=3)
TOKENS = DataSpec(shape=(5,), outputs=3, vocabulary=7)
FEATURES = DataSpec(shape=(6,), outputs=3)

MODELS: dict[str, tuple[DataSpec, Callable[[], nn.Module]]] = {
    "mlp": (FEATURES, partial(MLP([8, 5]).build, FEATURES)),
    "cnn": (IMAGE, partial(CNN([3, 4], 6).build, IMAGE)),
    "resnet": (IMAGE, partial(ResNet18GN(width=2, groups=1).build, IMAGE)),
    "transformer": (SEQUENCE, partial(Transformer(dim=8, heads=2, layers=1).build, SEQUENCE)),
    "lstm": (TOKENS, partial(LSTM(embedding=3, hidden=4).build, TOKENS)),
}

# Adam makes a full step of any gradient above its eps. Gradients that are zero but for rounding (keys' biases in
# attention, the length of a kernel in front of a normalisation) have a sign of chance in every order of summation.
EPS = {"resnet": 1e-3, "transformer": 1e-3}


def optimizer_of(name: str, model: str) -> OptimizerFn:
    eps = EPS.get(model, 1e-8)
    by_name: dict[str, OptimizerFn] = {
        "sgd": optim.SGD(0.1, momentum=0.9, weight_decay=0.01),
        "adam": optim.Adam(0.01, eps=eps),
        "adamw": optim.AdamW(0.01, eps=eps, weight_decay=0.1),
    }
    return by_name[name]


def problem_of(name: str) -> Problem:
    spec, model_fn = MODELS[name]
    return class_problem(SIZES, spec.shape, spec.outputs, model_fn, vocabulary=spec.vocabulary)


def plain_loop(task: LocalTask, client: int, dropout: Callable[[nn.Module, int], None] | None = None) -> Tensor:
    """What a client ends with, written as anybody would write it; only the order of examples is fedray's."""
    data = task.data
    sizes, keys = data.sizes[[client]], data.keys(np.array([client]))
    schedule = Schedule.draw(task.args, sizes, keys, task.seed, 1)
    rows = data.rows(np.array([client]))
    x, y = rows.take(np.arange(sizes[0])[None])
    module = task.model_fn().train()
    optimizer = task.optimizer_fn([p for p in module.parameters() if p.requires_grad])
    for step in range(schedule.index.shape[1]):
        chosen = torch.from_numpy(schedule.index[0, step, : schedule.count[0, step]])
        if dropout is not None:
            dropout(module, step)
        optimizer.zero_grad()
        task.loss_fn(module(x[0][chosen]), y[0][chosen]).backward()
        optimizer.step()
    return task.layout.pack(dict(module.state_dict())) - task.layout.pack(dict(task.model_fn().state_dict()))


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        # Each model with SGD, whose updates are compared most closely, and with one of Adam's; the other is slow.
        pytest.param(model, optimizer, id=f"{model}-{optimizer}", marks=pytest.mark.slow if row % 2 == kind else [])
        for row, model in enumerate(MODELS)
        for kind, optimizer in enumerate(["adam", "adamw", "sgd"])
    ],
)
@pytest.mark.one_in(3)
def test_stacked_is_alone_is_a_plain_loop(model: str, optimizer: str) -> None:
    problem = problem_of(model)
    task = local_task(problem, optimizer=optimizer_of(optimizer, model), args=LocalSection(2, 4), stack=len(SIZES))
    assert task.stacking.stacked, task.stacking.reason
    everyone = range(len(SIZES))
    stacked = train(task, everyone)
    alone = train(replace(task, stacking=Stacking(1, False, "")), everyone)
    np.testing.assert_allclose(stacked.loss, alone.loss, rtol=1e-5)
    assert stacked.examples.tolist() == alone.examples.tolist() == [2 * size for size in SIZES]
    assert stacked.weight.tolist() == alone.weight.tolist() == list(SIZES)
    start = task.layout.pack(dict(task.model_fn().state_dict()))
    for client in everyone:
        oracle = plain_loop(task, client)
        assert float(oracle.abs().max()) > 1e-2
        for update in (alone.parts["delta"][client], stacked.parts["delta"][client]):
            assert relative(start + update, start + oracle) <= 1e-5
            if optimizer == "sgd":
                assert relative(update, oracle) <= 1e-5


def test_equal_clients_stack_without_padding() -> None:
    problem = class_problem((8, 8, 8))
    task = local_task(problem, optimizer=optim.SGD(0.1, 0.9), args=LocalSection(2, 4), stack=3)
    stacked = train(task, range(3))
    for client in range(3):
        assert relative(stacked.parts["delta"][client], plain_loop(task, client)) <= 1e-6


class Dropper(nn.Module):
    """Dropout as a module, as a function, and inside attention."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.drop = nn.Dropout(p)
        self.attention = nn.MultiheadAttention(8, 2, dropout=p, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(torch.tanh(self.embed(x)))
        hidden = hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0]
        out: Tensor = self.head(functional.dropout(hidden, self.drop.p, self.training).mean(dim=1))
        return out


def test_dropout_draws_the_same_stacked_as_alone() -> None:
    problem = class_problem(SIZES, SEQUENCE.shape, 3, Dropper)
    task = local_task(problem, args=LocalSection(2, 4), stack=len(SIZES))
    assert task.stacking.stacked, task.stacking.reason
    stacked = train(task, range(len(SIZES)))
    alone = train(replace(task, stacking=Stacking(1, False, "")), range(len(SIZES)))
    assert relative(stacked.parts["delta"], alone.parts["delta"]) <= 1e-5
    off = train(replace(task, model_fn=seeded(lambda: Dropper(0.0))), range(len(SIZES)))
    assert relative(stacked.parts["delta"], off.parts["delta"]) > 1e-2


def test_the_transformer_with_dropout_stacks() -> None:
    model_fn = partial(Transformer(dim=8, heads=2, layers=1, dropout=0.25).build, SEQUENCE)
    problem = class_problem(SIZES, SEQUENCE.shape, 3, model_fn)
    task = local_task(problem, args=LocalSection(1, 4), stack=len(SIZES))
    assert task.stacking.stacked, task.stacking.reason
    stacked = train(task, range(len(SIZES)))
    alone = train(replace(task, stacking=Stacking(1, False, "")), range(len(SIZES)))
    assert relative(stacked.parts["delta"], alone.parts["delta"]) <= 1e-5


class GivenMask(nn.Module):
    """Dropout with a mask that somebody sets: the oracle's."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.draws = p, torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.draws[: x.numel()].view(x.shape) >= self.p
        return x * kept / (1 - self.p)


def test_dropout_is_a_plain_loop_with_the_masks_of_the_stream() -> None:
    def build(drop: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), drop, nn.Linear(8, 3))

    problem = class_problem((7, 5), model_fn=lambda: build(nn.Dropout(0.4)))
    task = local_task(problem, args=LocalSection(2, 4), stack=2)
    oracle_task = replace(task, model_fn=seeded(lambda: build(GivenMask(0.4))))
    stacked = train(task, [0, 1])

    def given(client: int, module: nn.Module, step: int) -> None:
        # The first of the 1024 draws that a step may make.
        turn = torch.tensor(step * 1024)
        module[2].draws = Stream(task.seed, "dropout", 1).uniform(torch.tensor(client), turn, 64)  # type: ignore[index]

    for client in range(2):
        expected = plain_loop(oracle_task, client, partial(given, client))
        assert relative(stacked.parts["delta"][client], expected) <= 1e-5


def test_no_epoch_returns_the_model_unchanged() -> None:
    for stack in (3, 1):
        update = train(local_task(class_problem(), args=LocalSection(0, 4), stack=stack), [0, 1, 2])
        assert not update.parts["delta"].any()
        assert update.examples.tolist() == [0, 0, 0]
        assert update.loss.tolist() == [0.0, 0.0, 0.0]


def test_frozen_and_tied_parameters_train_alike() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.second = nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.fixed = nn.Parameter(torch.randn(6), requires_grad=False)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)) * self.fixed)))
            return out

    task = local_task(class_problem(SIZES, model_fn=Odd), args=LocalSection(1, 4), stack=len(SIZES))
    assert task.stacking.stacked, task.stacking.reason
    stacked = train(task, range(len(SIZES)))
    alone = train(replace(task, stacking=Stacking(1, False, "")), range(len(SIZES)))
    assert "fixed" in task.layout.frozen
    for client in range(len(SIZES)):
        oracle = plain_loop(task, client)[: task.layout.trained]
        assert relative(stacked.parts["delta"][client], oracle) <= 1e-5
        assert relative(alone.parts["delta"][client], oracle) <= 1e-5


class Nothing(ClientProgram):
    """Asks for the joined gradients, and leaves them as they are."""

    def client(self, c: Clients) -> None:
        c.fit(gradient=lambda step, grad: None)


@pytest.mark.parametrize("model", MODELS)
def test_stepping_tensor_by_tensor_has_the_bits_of_stepping_on_the_whole(model: str) -> None:
    """A program that has the gradients joined, and changes nothing, gets the same numbers."""
    task = local_task(
        problem_of(model), optimizer=optimizer_of("sgd", model), args=LocalSection(2, 4), stack=len(SIZES)
    )
    assert task.stacking.stacked, task.stacking.reason
    everyone = range(len(SIZES))
    apart, whole = train(task, everyone), train(replace(task, program=Nothing()), everyone)
    assert torch.equal(apart.parts["delta"], whole.parts["delta"])
    assert apart.loss.tolist() == whole.loss.tolist()
