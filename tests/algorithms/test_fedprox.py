"""FedProx against the paper's loop, and its limit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray import optim
from fedray.algorithms import FedAvg, FedProx
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from tests.algorithms.loops import ROUNDS, LeastSquares, assert_equal_models, trained
from tests.helpers import class_problem, federation, linear_problem, relative


@pytest.mark.parametrize("mu", [0.1, 1.0])
def test_fedprox_is_the_papers_loop(mu: float, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    for _ in range(ROUNDS):
        ends = [squares.descend(client, w, lambda local, w=w: mu * (local - w)) for client in range(4)]  # type: ignore[misc]
        w = w + sum(size * (end - w) for size, end in zip(squares.sizes, ends, strict=True)) / squares.sizes.sum()
    assert_equal_models(trained(squares, FedProx(mu=mu), tmp_path), w)


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
@pytest.mark.parametrize("optimizer", [optim.SGD(0.1, 0.9), optim.Adam(0.01)], ids=["sgd", "adam"])
def test_fedprox_without_a_pull_is_fedavg_bitwise(
    optimizer: optim.TorchOptimizer, stack: Stack, tmp_path: Path
) -> None:
    args = LocalSection(2, 4)
    for problem in (linear_problem(), class_problem()):
        prox = federation(problem, tmp_path, FedProx(mu=0.0), optimizer=optimizer, stack=stack, args=args)
        avg = federation(problem, tmp_path, FedAvg(), optimizer=optimizer, stack=stack, args=args)
        pulled = federation(problem, tmp_path, FedProx(mu=0.5), optimizer=optimizer, stack=stack, args=args)
        for run in (prox, avg, pulled):
            run.run()
        assert torch.equal(prox.vector, avg.vector)
        assert relative(pulled.vector, avg.vector) > 1e-4
