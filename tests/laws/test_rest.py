"""Where algorithms come to rest: at the optimum of all rows together, where FedAvg does, or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.algorithms import (
    AFL,
    APFL,
    IFCA,
    MIFA,
    DiLoCo,
    Ditto,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedCM,
    FedDC,
    FedDyn,
    FedExP,
    FedNova,
    FedProx,
    FedSAM,
    FedSGD,
    FedVARP,
    FedYogi,
    Mime,
    MoFedSAM,
    PerFedAvg,
    PFedMe,
    QFedAvg,
    Scaffold,
    StreamingDiLoCo,
)
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.sampling import Uniform
from tests.algorithms.loops import LeastSquares
from tests.helpers import Problem, federation, linear_problem, relative

CLIENTS, LR, STEPS, ROUNDS = 5, 0.45, 5, 80


@dataclass(frozen=True)
class Rest:
    """The place where an algorithm comes to rest.

    Args:
        algorithm: with its parameters.
        where: ``the optimum``, the least squares of all rows; ``FedAvg's``, where FedAvg rests; or ``elsewhere``.
        cohort: clients in a round; with fewer than all, the place is one that FedAvg itself does not come to.
    """

    algorithm: Algorithm
    where: Literal["the optimum", "FedAvg's", "elsewhere"]
    cohort: int = CLIENTS


REST: list[Rest] = [
    Rest(Scaffold(), "the optimum"),
    Rest(Scaffold(), "the optimum", cohort=3),
    Rest(FedSGD(), "the optimum"),
    Rest(FedDyn(alpha=1.0), "the optimum"),
    Rest(FedDyn(alpha=1.0), "the optimum", cohort=3),
    Rest(FedDC(alpha=1.0), "the optimum"),
    Rest(FedDC(alpha=0.3), "the optimum", cohort=3),
    Rest(Mime(beta=0.5), "the optimum"),
    Rest(FedAvg(), "FedAvg's"),
    Rest(FedNova(), "FedAvg's"),
    Rest(FedAvgM(momentum=0.5), "FedAvg's"),
    Rest(FedAvgM(momentum=0.5, nesterov=True), "FedAvg's"),
    # Where tau is small, steps are as long as before when there is little left to go.
    Rest(FedAdam(server_lr=10.0, beta1=0.5, tau=10.0), "FedAvg's"),
    Rest(FedYogi(server_lr=10.0, beta1=0.5, tau=10.0), "FedAvg's"),
    Rest(FedAdagrad(server_lr=10.0, tau=10.0), "FedAvg's"),
    Rest(MIFA(), "FedAvg's", cohort=3),
    Rest(FedVARP(), "FedAvg's", cohort=3),
    # Where eps is small, the step grows as the mean update falls, and there is no rest: the paper takes means of two.
    Rest(FedExP(eps=10.0), "FedAvg's"),
    Rest(DiLoCo(server_lr=0.7, momentum=0.5, keep=False), "FedAvg's"),
    Rest(StreamingDiLoCo(server_lr=0.7, momentum=0.5, keep=False), "elsewhere"),
    Rest(Ditto(lam=0.5), "FedAvg's"),
    Rest(APFL(), "FedAvg's"),
    Rest(FedProx(mu=1.0), "elsewhere"),
    Rest(FedSAM(rho=0.2), "elsewhere"),
    Rest(FedCM(alpha=0.3), "elsewhere"),
    Rest(MoFedSAM(alpha=0.3, rho=0.2), "elsewhere"),
    Rest(Mime(beta=0.5, lite=True), "elsewhere"),
    Rest(QFedAvg(q=0.5), "elsewhere"),
    # With longer steps its multipliers go round the saddle point.
    Rest(AFL(gamma=0.01), "elsewhere"),
    Rest(PFedMe(lam=5.0, inner_steps=3, inner_lr=0.1), "elsewhere"),
    Rest(PerFedAvg(alpha=0.3), "elsewhere"),
    Rest(IFCA(clusters=2, spread=0.5), "elsewhere"),
]


@cache
def drifting() -> Problem:
    """Clients of one size that disagree, so that the mean over clients is the mean over examples."""
    return linear_problem(sizes=(10,) * CLIENTS, features=3, spread=2.0)


@cache
def places() -> dict[str, Tensor]:
    """The optimum of all rows together, and where the mean of the clients' local steps is none.

    The steps of a client with the optimum s and the Hessian A end at ``s + (I - LR A)^STEPS (x - s)``.
    """
    squares = LeastSquares(drifting())
    pooled = np.linalg.lstsq(np.vstack(squares.x), np.concatenate(squares.y), rcond=None)[0]
    identity = np.eye(len(pooled))
    left, right = np.zeros_like(identity), np.zeros_like(pooled)
    for x, y in zip(squares.x, squares.y, strict=True):
        gone = identity - np.linalg.matrix_power(identity - LR * x.T @ x / len(y), STEPS)
        left += gone
        right += gone @ np.linalg.lstsq(x, y, rcond=None)[0]
    found = {"the optimum": pooled, "FedAvg's": np.linalg.solve(left, right)}
    return {name: torch.from_numpy(place) for name, place in found.items()}


@pytest.mark.parametrize("rest", REST, ids=lambda rest: f"{rest.algorithm.name} {rest.where} {rest.cohort}")
@pytest.mark.one_in(16)
def test_where_it_comes_to_rest(rest: Rest, tmp_path: Path) -> None:
    run = federation(
        drifting(),
        tmp_path,
        rest.algorithm,
        optimizer=optim.SGD(LR),
        args=LocalSection(1, None, STEPS),
        sampler=Uniform(rest.cohort),
        rounds=ROUNDS,
        stack=CLIENTS,
    )
    run.run()
    away = {name: relative(run.vector, place) for name, place in places().items()}
    if rest.where in away:
        assert away.pop(rest.where) <= 1e-5
    assert min(away.values()) >= 2e-3
    # At rest: another round changes nothing that shows.
    before = run.vector.clone()
    run.run(ROUNDS + 1)
    assert relative(run.vector, before) <= 1e-5


def test_fedavg_does_not_rest_with_cohorts_of_some(tmp_path: Path) -> None:
    """What MIFA and FedVARP, SCAFFOLD, FedDyn and FedDC are there for."""
    run = federation(drifting(), tmp_path, optimizer=optim.SGD(LR), sampler=Uniform(3), rounds=20, stack=CLIENTS)
    run.run()
    before = run.vector.clone()
    run.run(21)
    assert relative(run.vector, before) >= 1e-2
