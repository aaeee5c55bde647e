"""Adam, Yogi and Adagrad, against Flower's strategies, the paper in float64, and torch.optim."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray.algorithms import FedAvg
from fedray.server import Adagrad, Adam, Yogi
from fedray.server.adaptive import Adaptive
from tests.server.rounds import ROUNDS, SIZE, WEIGHTS, Floats, aggregate, assert_same, flowers, ours, start, updates


def test_adagrad_is_flowers() -> None:
    # Flower starts v at 0 where the paper has tau^2.
    mine = ours(FedAvg(), Adagrad(lr=0.05, tau=1e-2, initial=0.0))
    assert_same(mine, flowers("FedAdagrad", eta=0.05, tau=1e-2))


def test_yogi_is_flowers() -> None:
    mine = ours(FedAvg(), Yogi(lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2, initial=0.0))
    assert_same(mine, flowers("FedYogi", eta=0.05, beta_1=0.8, beta_2=0.95, tau=1e-2))


def test_adam_is_flowers_but_for_the_step_size() -> None:
    # Flower multiplies the step by Adam's bias correction, of one step further than it is: with t the round,
    # eta * sqrt(1 - beta2^(t + 1)) / (1 - beta1^(t + 1)).  The paper (arXiv:2003.00295, Algorithm 2) has none.
    def corrected(round: int) -> float:
        return 0.05 * math.sqrt(1.0 - 0.95 ** (round + 1)) / (1.0 - 0.8 ** (round + 1))

    adam = Adam(lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2, initial=0.0)
    theirs = flowers("FedAdam", eta=0.05, beta_1=0.8, beta_2=0.95, tau=1e-2)
    assert_same(ours(FedAvg(), adam, corrected), theirs)
    assert float(np.abs(ours(FedAvg(), adam)[0].numpy() - theirs[0]).max()) > 1e-3


def algorithm_two(optimizer: Adaptive) -> list[Floats]:
    """Algorithm 2 of arXiv:2003.00295, in float64."""
    x, m = start().double().numpy(), np.zeros(SIZE)
    v = np.full(SIZE, optimizer.tau**2 if optimizer.initial is None else optimizer.initial)
    history = []
    for round in range(1, ROUNDS + 1):
        delta = np.average(updates(round).double().numpy(), axis=0, weights=WEIGHTS)
        square = delta**2
        m = optimizer.beta1 * m + (1 - optimizer.beta1) * delta
        if isinstance(optimizer, Adagrad):
            v = v + square
        elif isinstance(optimizer, Yogi):
            v = v - (1 - optimizer.beta2) * square * np.sign(v - square)
        else:
            v = optimizer.beta2 * v + (1 - optimizer.beta2) * square
        x = x + optimizer.lr * m / (np.sqrt(v) + optimizer.tau)
        history.append(x)
    return history


@pytest.mark.parametrize("initial", [None, 0.0, 0.3])
@pytest.mark.parametrize("kind", [Adam, Yogi, Adagrad])
def test_they_are_as_published(kind: type[Adaptive], initial: float | None) -> None:
    optimizer = kind(lr=0.05, tau=0.01, initial=initial)
    assert_same(ours(FedAvg(), optimizer), algorithm_two(optimizer))


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        (Adam(lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2, variant="torch"),
         lambda p: torch.optim.Adam(p, 0.05, (0.8, 0.95), 1e-2)),
        (Adagrad(lr=0.05, tau=1e-2, variant="torch"),
         lambda p: torch.optim.Adagrad(p, 0.05, eps=1e-2, initial_accumulator_value=1e-4)),
        (Adagrad(lr=0.05, tau=1e-2, initial=0.5, variant="torch"),
         lambda p: torch.optim.Adagrad(p, 0.05, eps=1e-2, initial_accumulator_value=0.5)),
    ],
    ids=["adam", "adagrad", "adagrad-initial"],
)  # fmt: skip
def test_torch_variants_are_torch_optim(optimizer: Adaptive, make: Callable[[list[Tensor]], Any]) -> None:
    params = start().requires_grad_()
    theirs = make([params])
    for round, vector in enumerate(ours(FedAvg(), optimizer), start=1):
        params.grad = -aggregate(round).parts["delta"]
        theirs.step()
        assert torch.equal(vector, params.detach())


def test_published_is_the_earlier_word_for_paper() -> None:
    assert Adam(variant="published") == Adam()
    assert Adagrad(variant="published") == Adagrad(variant="paper")
