"""FedAvg and FedSGD against their papers' loops, and the limits of server optimizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray.algorithms import FedAvg, FedAvgM, FedSGD
from tests.algorithms.loops import LR, ROUNDS, LeastSquares, assert_equal_models, trained
from tests.helpers import class_problem, federation, relative


@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_fedavg_is_the_papers_loop(server_lr: float, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    for _ in range(ROUNDS):
        ends = [squares.descend(client, w) for client in range(4)]
        mean = sum(size * (end - w) for size, end in zip(squares.sizes, ends, strict=True)) / squares.sizes.sum()
        w = w + server_lr * mean
    assert_equal_models(trained(squares, FedAvg(server_lr=server_lr), tmp_path), w)


def test_uniform_weights_do_not_ask_for_sizes(tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    for _ in range(ROUNDS):
        w = w + sum(squares.descend(client, w) - w for client in range(4)) / 4
    assert_equal_models(trained(squares, FedAvg(weight="uniform"), tmp_path), w)


def test_fedsgd_is_one_step_along_the_gradient_of_all_rows(tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    for _ in range(ROUNDS):
        parts = [size * squares.gradient(client, w) for client, size in enumerate(squares.sizes)]
        w = w - LR * sum(parts) / squares.sizes.sum()
    assert_equal_models(trained(squares, FedSGD(), tmp_path), w)


@pytest.mark.parametrize("nesterov", [False, True])
def test_fedavgm_is_the_papers_loop(nesterov: bool, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    v = 0.0 * w
    for _ in range(ROUNDS):
        ends = [squares.descend(client, w) for client in range(4)]
        delta = sum(size * (end - w) for size, end in zip(squares.sizes, ends, strict=True)) / squares.sizes.sum()
        v = 0.6 * v + delta
        w = w + 0.8 * (delta + 0.6 * v if nesterov else v)
    ours = trained(squares, FedAvgM(server_lr=0.8, momentum=0.6, nesterov=nesterov), tmp_path)
    assert_equal_models(ours, w)


def test_no_momentum_is_fedavg_bitwise(tmp_path: Path) -> None:
    problem = class_problem()
    one, other = federation(problem, tmp_path, FedAvgM(momentum=0.0)), federation(problem, tmp_path)
    one.run()
    other.run()
    assert torch.equal(one.vector, other.vector)


def test_the_server_step_size_scales_one_round(tmp_path: Path) -> None:
    problem = class_problem()
    whole = federation(problem, tmp_path, rounds=1)
    half = federation(problem, tmp_path, FedAvg(server_lr=0.5), rounds=1)
    start = whole.vector.clone()
    whole.run()
    half.run()
    assert relative(2.0 * (half.vector - start), whole.vector - start) <= 1e-5
