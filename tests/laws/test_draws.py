"""What a user's own code draws is named: a run twice is the same run, whoever trains first, and draws nothing here."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import FederatedData, FederatedModel, TrainArgs, train
from fedray.core.draws import drawn_since, traces
from fedray.data.columns.base import ClientData
from tests.helpers import class_problem, local_task, relative
from tests.helpers import train as local_train

DRAWS: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.random()),  # noqa: NPY002
    "random": random.random,
}
X = np.random.default_rng(0).standard_normal((40, 6)).astype("f4")
Y = X[:, :3].argmax(axis=1)


class Noisy(nn.Linear):
    """Scales what comes in by what is drawn."""

    def __init__(self, draw: Callable[[], float], training: bool = True) -> None:
        super().__init__(6, 3)
        self.draw, self.in_training = draw, training

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.draw() if self.training == self.in_training else x)


def in_model(draw: Callable[[], float]) -> tuple[FederatedModel, ClientData]:
    return FederatedModel(lambda: Noisy(draw)), plain_data()


def in_builder(draw: Callable[[], float]) -> tuple[FederatedModel, ClientData]:
    def build() -> nn.Module:
        module = nn.Linear(6, 3)
        module.register_buffer("unsaved", torch.tensor(draw()), persistent=False)
        module.register_forward_pre_hook(lambda m, x: (x[0] * m.unsaved,))
        return module

    return FederatedModel(build), plain_data()


def in_evaluation(draw: Callable[[], float]) -> tuple[FederatedModel, ClientData]:
    return FederatedModel(lambda: Noisy(draw, training=False)), plain_data()


def in_loss(draw: Callable[[], float]) -> tuple[FederatedModel, ClientData]:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output * draw(), target)

    return FederatedModel(lambda: nn.Linear(6, 3), loss_fn=loss), plain_data()


def in_data(draw: Callable[[], float]) -> tuple[FederatedModel, ClientData]:
    def client(name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(0, 20) if name == "a" else slice(20, 40)
        return np.float32(draw()) * X[rows], Y[rows]

    return FederatedModel(lambda: nn.Linear(6, 3)), FederatedData.from_function(client, ["a", "b"], test=(X, Y))


def plain_data() -> ClientData:
    return FederatedData.from_arrays(X, Y, np.repeat(["a", "b"], 20), test=(X, Y)).with_holdout(0.2, 0)


WHERE = {"model": in_model, "builder": in_builder, "evaluation": in_evaluation, "loss": in_loss, "data": in_data}


@pytest.mark.parametrize(
    ("where", "draw", "stack"),
    [
        # Each generator in each place, in stacks or alone; the others are slow.
        pytest.param(
            where, draw, stack, id=f"{where}-{draw}-{stack}", marks=pytest.mark.slow if (row + place + kind) % 2 else []
        )
        for row, where in enumerate(WHERE)
        for place, draw in enumerate(DRAWS)
        for kind, stack in enumerate(["auto", "off"])
    ],
)
@pytest.mark.one_in(3)
def test_a_run_twice_is_the_same_run(where: str, draw: str, stack: str, tmp_path: Path) -> None:
    def lines(name: str) -> list[object]:
        DRAWS[draw]()  # another place in the sequence
        model, data = WHERE[where](DRAWS[draw])
        held = int(data.holdout_sizes.sum() > 0)
        args = TrainArgs(rounds=2, batch_size=8, stack=stack, evaluate_clients_every=held, tracking=[])
        before = traces()
        result = train(model, data, args, cluster="inline", run_dir=tmp_path / name, progress=False)
        assert drawn_since(before) == []
        return [(record.model_sha256, record.test, record.clients_test) for record in result.history]

    assert lines("one") == lines("two")


@pytest.mark.parametrize("draw", DRAWS)
def test_a_clients_draws_are_its_own_and_the_rounds(draw: str) -> None:
    task = local_task(class_problem((6, 6), model_fn=lambda: Noisy(DRAWS[draw])), stack=2)
    assert not task.stacking.stacked
    one, other = local_train(task, [0, 1]), local_train(task, [1, 0])
    assert torch.equal(one.parts["delta"], other.parts["delta"].flip(0))
    assert relative(one.parts["delta"][:1], one.parts["delta"][1:]) > 1e-2


def test_a_stack_is_told_from_which_generator_it_may_not_draw() -> None:
    for draw, name in (("numpy", "numpy.random"), ("random", "random")):
        task = local_task(class_problem((6, 6), model_fn=lambda draw=draw: Noisy(DRAWS[draw])), stack=2)  # type: ignore[misc]
        assert task.stacking.reason == f"it draws from {name}, which knows one client at a time"
