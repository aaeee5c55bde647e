"""Ditto against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fedray.algorithms import Ditto, FedAvg
from fedray.config.sections import LocalSection
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation, remembered


def test_ditto_is_the_papers_loop(tmp_path: Path) -> None:
    classes, lam = Classes(), 0.7
    w = classes.initial()
    own = [w] * 4
    for _ in range(ROUNDS):
        ends = [w] * 4
        for c in range(4):
            for _ in range(STEPS):
                ends[c] = ends[c] - LR * classes.gradient(c, ends[c])
                own[c] = own[c] - LR * (classes.gradient(c, own[c]) + lam * (own[c] - w))
        w = classes.mean(ends)
    assert_is_the_loop(classes, Ditto(lam=lam), w, tmp_path, own)


def test_a_clients_own_model_has_running_statistics_of_its_own(tmp_path: Path) -> None:
    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))

    problem = class_problem((12, 7, 9, 5), model_fn=normed)
    plain, ditto = (
        federation(problem, tmp_path / one.name, one, args=LocalSection(1, None), stack="off", rounds=2)
        for one in (FedAvg(), Ditto())
    )
    plain.run()
    ditto.run()
    assert torch.equal(ditto.vector, plain.vector)
    layout = ditto.plan.layout
    own = remembered(ditto)["own"]
    assert {int(layout.unpack(row)["1.num_batches_tracked"]) for row in own} == {2}
    assert len({float(layout.unpack(row)["1.running_mean"][0]) for row in own}) == 4
