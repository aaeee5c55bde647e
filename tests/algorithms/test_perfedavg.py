"""Per-FedAvg against the paper's loop, and its limit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms import FedAvg, PerFedAvg
from fedray.config.sections import LocalSection
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation, relative


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.one_in(2)
def test_perfedavg_is_the_papers_loop(exact: bool, tmp_path: Path) -> None:
    """Batches are all rows, so that there is one gradient g and one Hessian H for each client."""
    classes, alpha = Classes(), 0.3
    x = classes.initial()
    for _ in range(ROUNDS):
        ends = []
        for c in range(4):
            w = x
            for _ in range(STEPS):
                outer = classes.gradient(c, w - alpha * classes.gradient(c, w))
                if exact:

                    def loss(v: Tensor, c: int = c) -> Tensor:
                        return functional.cross_entropy(classes.outputs(v, classes.x[c])[0], classes.y[c])

                    hessian = torch.autograd.functional.hessian(loss, w)
                    outer = outer - alpha * hessian @ outer
                w = w - LR * outer
            ends.append(w)
        x = classes.mean(ends)
    own = [x - alpha * classes.gradient(c, x) for c in range(4)]
    assert_is_the_loop(classes, PerFedAvg(alpha=alpha, exact=exact), x, tmp_path, own)


def test_without_an_inner_step_it_is_fedavg(tmp_path: Path) -> None:
    runs = [
        federation(class_problem(), tmp_path / one.name, one, args=LocalSection(3, None))
        for one in (PerFedAvg(alpha=0.0), FedAvg())
    ]
    for run in runs:
        run.run()
    assert relative(runs[0].vector, runs[1].vector) <= 1e-5
