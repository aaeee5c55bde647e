"""pFedMe against the paper's loop, and its limit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray.algorithms import FedAvg, PFedMe
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation, relative


@pytest.mark.parametrize("beta", [1.0, 0.6])
@pytest.mark.one_in(2)
def test_pfedme_is_the_papers_loop(beta: float, tmp_path: Path) -> None:
    classes, lam, inner = Classes(), 4.0, 0.1
    x = classes.initial()
    own = [x] * 4
    for _ in range(ROUNDS):
        ends = []
        for c in range(4):
            w = x
            for _ in range(STEPS):
                theta = w
                for _ in range(3):
                    theta = theta - inner * (classes.gradient(c, theta) + lam * (theta - w))
                own[c], w = theta, w - LR * lam * (w - theta)
            ends.append(w)
        x = (1 - beta) * x + beta * torch.stack(ends).mean(0)
    assert_is_the_loop(classes, PFedMe(lam, 3, inner, beta), x, tmp_path, own)


def test_one_inner_step_of_length_1_over_lam_is_fedavg(tmp_path: Path) -> None:
    runs = [
        federation(class_problem(), tmp_path / one.name, one)
        for one in (PFedMe(lam=4.0, inner_steps=1, inner_lr=0.25), FedAvg(weight="uniform"))
    ]
    for run in runs:
        run.run()
    assert relative(runs[0].vector, runs[1].vector) <= 1e-5
