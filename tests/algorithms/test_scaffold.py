"""SCAFFOLD against the paper's loop, its limit, and its invariant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.algorithms import FedSGD, Scaffold
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from fedray.rundir.state_rows import StateRows
from fedray.sampling import Full, Poisson, Sampler, Uniform
from tests.algorithms.loops import LR, ROUNDS, STEPS, LeastSquares, assert_equal_models, trained
from tests.helpers import class_problem, federation, linear_problem, relative


@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_scaffold_is_the_papers_loop(server_lr: float, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    server, own = 0.0 * w, [0.0 * w for _ in range(4)]
    for _ in range(ROUNDS):
        ends = [
            squares.descend(client, w, lambda local, drift=server - own[client]: drift)  # type: ignore[misc]
            for client in range(4)
        ]
        renewed = [own[client] - server + (w - end) / (STEPS * LR) for client, end in enumerate(ends)]
        changes = [new - old for new, old in zip(renewed, own, strict=True)]
        w = w + server_lr * sum(end - w for end in ends) / 4
        server, own = server + sum(changes) / 4, renewed
    assert_equal_models(trained(squares, Scaffold(server_lr=server_lr), tmp_path), w)


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
def test_scaffold_with_one_local_step_and_everyone_is_fedsgd(stack: Stack, tmp_path: Path) -> None:
    for problem in (linear_problem(), class_problem()):
        scaffold = federation(problem, tmp_path, Scaffold(), args=LocalSection(1, None), stack=stack, rounds=8)
        sgd = federation(problem, tmp_path, FedSGD(weight="uniform"), stack=stack, rounds=8)
        for rounds in range(1, 9):
            scaffold.run(rounds)
            sgd.run(rounds)
            assert relative(scaffold.vector, sgd.vector) <= 1e-5


@pytest.mark.parametrize("sampler", [Full(), Uniform(2), Poisson(0.3)], ids=repr)
def test_the_servers_control_variate_is_the_mean_of_all_clients_own(sampler: Sampler, tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, Scaffold(), sampler=sampler, rounds=5)
    run.run()
    rows = StateRows(tmp_path, run.job.state_fields())
    everyone = np.arange(6)
    own, known = rows.read(everyone, run.state.store.of(everyone), torch.device("cpu"))
    rows.close()
    assert any(known)
    server = run.state.server.state["control"]
    assert relative(own["control"].mean(dim=0), server) <= 1e-5
