"""Lamb against its paper's loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedray.algorithms import FedAvg
from fedray.core.layout import Layout
from fedray.server import Lamb
from tests.server.rounds import ROUNDS, SIZE, WEIGHTS, Floats, assert_same, ours, start, updates


def algorithm_two(lamb: Lamb) -> list[Floats]:
    """Algorithm 2 of arXiv:1904.00962, in float64, for a layer of SIZE - 1 weights and a bias."""
    x, m, v = start().double().numpy(), np.zeros(SIZE), np.zeros(SIZE)
    history = []
    for t in range(1, ROUNDS + 1):
        g = -np.average(updates(t).double().numpy(), axis=0, weights=WEIGHTS)
        m = lamb.beta1 * m + (1 - lamb.beta1) * g
        v = lamb.beta2 * v + (1 - lamb.beta2) * g**2
        r = (m / (1 - lamb.beta1**t)) / (np.sqrt(v / (1 - lamb.beta2**t)) + lamb.eps) + lamb.weight_decay * x
        step = np.zeros(SIZE)
        for layer in (slice(0, SIZE - 1), slice(SIZE - 1, SIZE)):
            step[layer] = np.linalg.norm(x[layer]) / np.linalg.norm(r[layer]) * r[layer]
        x = x - lamb.lr * step
        history.append(x)
    return history


@pytest.mark.parametrize("lamb", [Lamb(0.05), Lamb(0.02, 0.8, 0.95, 1e-3, weight_decay=0.1)], ids=repr)
def test_lamb_is_its_papers_loop(lamb: Lamb) -> None:
    assert_same(ours(FedAvg(), lamb), algorithm_two(lamb))


def test_a_layer_of_zeros_moves_by_adams_step_and_one_without_an_update_stays() -> None:
    layout = Layout.of(torch.nn.Linear(2, 1))
    x, lamb = torch.tensor([0.0, 0.0, 1.0]), Lamb(lr=0.1)
    lamb.step(x, torch.tensor([1.0, -4.0, 0.0]), 0.1, lamb.start(x, layout), layout)
    assert torch.allclose(x, torch.tensor([0.1, -0.1, 1.0]), atol=1e-6)
