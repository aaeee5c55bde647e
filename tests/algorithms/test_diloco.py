"""DiLoCo against a loop of the paper's in float64, and what it makes of a run's sections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.algorithms import DiLoCo
from fedray.config.sections import LocalSection
from fedray.optim import AdamW
from tests.algorithms.loops import ROUNDS, STEPS, LeastSquares, assert_equal_models
from tests.helpers import federation


class Moments:
    """AdamW of Loshchilov and Hutter, arXiv:1711.05101, Algorithm 2."""

    def __init__(self, size: int) -> None:
        self.first, self.second, self.count = np.zeros(size), np.zeros(size), 0

    def step(self, w: np.ndarray, gradient: np.ndarray, lr: float, decay: float) -> np.ndarray:
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first, second = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
        return w - lr * (first / (np.sqrt(second) + 1e-8) + decay * w)


@pytest.mark.parametrize("keep", [True, False])
def test_diloco_is_the_papers_loop(keep: bool, tmp_path: Path) -> None:
    squares, lr, decay = LeastSquares(), 0.05, 0.1
    x = squares.initial()
    velocity = np.zeros(len(x))
    moments = [Moments(len(x)) for _ in squares.x]
    for _ in range(ROUNDS):
        ends = []
        for client in range(4):
            w = x.copy()
            if not keep:
                moments[client] = Moments(len(x))
            for _ in range(STEPS):
                w = moments[client].step(w, squares.gradient(client, w), lr, decay)
            ends.append(w)
        outer = x - np.mean(ends, axis=0)
        velocity = 0.8 * velocity + outer
        x = x - 0.5 * (outer + 0.8 * velocity)
    run = federation(
        squares.problem,
        tmp_path,
        DiLoCo(server_lr=0.5, momentum=0.8, keep=keep),
        optimizer=AdamW(lr, weight_decay=decay),
        args=LocalSection(1, None, STEPS),
        rounds=ROUNDS,
    )
    run.run()
    assert_equal_models(run.vector.double().numpy(), x)


def test_another_inner_optimizer_is_said() -> None:
    param = [torch.zeros(1, requires_grad=True)]
    assert DiLoCo().needs(torch.optim.AdamW(param), 1) is None
    said = DiLoCo().needs(torch.optim.SGD(param), 1)
    assert said is not None
    assert "inner optimizer is AdamW" in said
    assert "with SGD it is another method" in said
