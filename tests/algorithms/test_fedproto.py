"""FedProto against the paper's loop, its limit, and what it tells by the nearest prototype."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import optim
from fedray.algorithms import FedProto, LocalOnly
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.errors import ConfigError
from fedray.local.stacking import Stack
from fedray.sampling import Uniform
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation, personal, relative

LAM = 3.0


class Prototypes:
    """The loop of the paper on clients of ``Classes``."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.models = [classes.initial()] * 4
        self.means: dict[int, Tensor] = {}

    def loss(self, client: int, w: Tensor) -> Tensor:
        logits, z = self.classes.outputs(w, self.classes.x[client])
        y = self.classes.y[client].tolist()
        away = [(z[i] - self.means[k]).square().mean() for i, k in enumerate(y) if k in self.means]
        return functional.cross_entropy(logits, self.classes.y[client]) + LAM * sum(away, z.new_zeros(())) / len(y)

    def round(self) -> None:
        self.models = [self.classes.descend(c, self.models[c], partial(self.loss, c)) for c in range(len(self.models))]
        told: dict[int, list[Tensor]] = {}
        for client, w in enumerate(self.models):
            for z, k in zip(self.classes.outputs(w, self.classes.x[client])[1], self.classes.y[client], strict=True):
                told.setdefault(int(k), []).append(z)
        self.means |= {k: torch.stack(rows).mean(dim=0) for k, rows in told.items()}


def test_fedproto_is_the_papers_loop(tmp_path: Path) -> None:
    classes = Classes()
    loop = Prototypes(classes)
    for _ in range(ROUNDS):
        loop.round()
    assert_is_the_loop(classes, FedProto(lam=LAM), classes.initial(), tmp_path, loop.models)
    for stack in (4, "off"):
        run = federation(
            classes.problem,
            tmp_path / f"again {stack}",
            FedProto(lam=LAM),
            optimizer=optim.SGD(LR),
            args=LocalSection(1, None, STEPS),
            rounds=ROUNDS,
            stack=stack,
        )
        run.run()
        state = run.state.server.state
        prototypes = state["prototypes"].view(-1, 8).double()
        assert state["known"].nonzero().flatten().tolist() == sorted(loop.means)
        for k, mean in loop.means.items():
            assert relative(prototypes[k], mean) <= 1e-5


@pytest.mark.parametrize("stack", [3, "off"])
def test_without_the_distance_clients_train_alone_bitwise(stack: Stack, tmp_path: Path) -> None:
    alone, other = (
        federation(class_problem(), tmp_path / one.name, one, args=LocalSection(2, 4), sampler=Uniform(3), stack=stack)
        for one in (LocalOnly(), FedProto(lam=0.0))
    )
    alone.run(), other.run()
    assert torch.equal(personal(other), personal(alone))


def test_the_nearest_prototype_tells(tmp_path: Path) -> None:
    """Before there is one all classes are the same; then a class without one is told of nobody."""
    problem = class_problem((20, 16, 12), holdout=0.25)
    run = federation(
        problem, tmp_path, FedProto(), rounds=8, args=LocalSection(2, 4), evaluate=EvaluateSection(0, clients_every=1)
    )
    records = run.run()
    told = [record.clients_personal for record in records if record.clients_personal]
    assert told[-1]["loss"]["mean"] < np.log(3)
    state, models, correct, count = run.state.server.state, personal(run), 0, 0
    prototypes = state["prototypes"].view(3, -1)
    for client in range(3):
        x, y, _ = problem.data.holdout(np.array([client]))
        module = problem.model_fn()
        vector = torch.empty(run.plan.layout.size)
        vector.copy_(models[client])
        run.plan.layout.load(module, vector)
        assert isinstance(module, nn.Sequential)
        z = module[:-1](torch.as_tensor(x))
        nearest = (z[:, None] - prototypes).square().sum(dim=2).argmin(dim=1)
        correct, count = correct + int((nearest == torch.as_tensor(y)).sum()), count + len(y)
    assert told[-1]["accuracy"]["mean"] == pytest.approx(correct / count)


def test_features_that_are_no_vectors_are_refused(tmp_path: Path) -> None:
    def convolution() -> nn.Module:
        return nn.Sequential(nn.Conv1d(1, 3, 6), nn.Flatten())

    with pytest.raises(ConfigError, match=r"fedproto needs a vector of features and one class for each example"):
        federation(class_problem(shape=(1, 6), model_fn=convolution), tmp_path, FedProto())
