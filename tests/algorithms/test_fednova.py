"""FedNova against the paper's loop, and its limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedray import FederatedData, optim
from fedray.algorithms import FedAvg, FedNova
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from tests.algorithms.loops import LR, ROUNDS, LeastSquares, assert_equal_models, trained
from tests.helpers import class_problem, federation, linear_problem, relative


def test_fednova_is_the_papers_loop_where_clients_take_unequal_steps(tmp_path: Path) -> None:
    # A client's rows are all the same one, so that its number of batches matters and their order does not.
    draw = np.random.default_rng(2)
    owner = np.repeat(np.arange(3), (1, 4, 6))
    x, y = draw.standard_normal((3, 4)).astype("f4"), draw.standard_normal((3, 1)).astype("f4")
    problem = linear_problem(3)
    squares = LeastSquares(replace(problem, data=FederatedData.from_arrays(x[owner], y[owner], owner)))
    w = squares.initial()
    share = squares.sizes / squares.sizes.sum()
    for _ in range(ROUNDS):
        normalised = []
        for client, steps in enumerate(squares.sizes):
            local = w.copy()
            for _ in range(int(steps)):
                local -= LR * squares.gradient(client, local)
            normalised.append((local - w) / steps)
        mean = sum(p * d for p, d in zip(share, normalised, strict=True))
        w = w + float(np.dot(share, squares.sizes)) * mean  # equation 11 with tau_eff = sum_i p_i tau_i
    assert_equal_models(trained(squares, FedNova(), tmp_path, LocalSection(1, 1)), w)


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_fednova_at_equal_steps_is_fedavg(momentum: float, stack: Stack, tmp_path: Path) -> None:
    problem = class_problem((7, 3, 12, 9))
    runs = [
        federation(
            problem, tmp_path, config, optimizer=optim.SGD(0.1, momentum), args=LocalSection(1, 4, 5), stack=stack
        )
        for config in (FedNova(), FedAvg())
    ]
    for run in runs:
        run.run()
    assert relative(runs[0].vector, runs[1].vector) <= 1e-5
    ragged = [
        federation(problem, tmp_path, config, optimizer=optim.SGD(0.1, momentum), stack=stack)
        for config in (FedNova(), FedAvg())
    ]
    for run in ragged:
        run.run()
    assert relative(ragged[0].vector, ragged[1].vector) > 1e-3
