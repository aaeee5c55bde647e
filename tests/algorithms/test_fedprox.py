"""FedProx against the paper's loop, and its limit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fedray
from fedray import optim
from fedray.algorithms import FedAvg, FedProx
from fedray.config.sections import LocalSection
from fedray.local.stacking import Stack
from fedray.sampling import Uniform
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
@pytest.mark.one_in(2)
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


@pytest.mark.slow
def test_on_clients_that_differ_it_leads_fedavg_as_in_its_paper(tmp_path: Path) -> None:
    """Synthetic(1, 1) of arXiv:1812.06127, section 5.1, in LEAF JSON as its authors write it: classes are floats.

    Logistic regression, 10 of 30 clients, 20 epochs of batch 10 at lr 0.01, mu = 1: the loss is lower and steadier.
    """
    draw = np.random.default_rng(0)
    spread = np.arange(1, 61) ** -0.6
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    users, data = [f"f_{i:05d}" for i in range(30)], {}
    for user in users:
        rows, u, mean = min(50 + int(draw.lognormal(4, 2)), 300), draw.normal(), draw.normal(draw.normal(), 1, 60)
        x = mean + spread * draw.standard_normal((rows, 60))
        y = (x @ draw.normal(u, 1, (60, 10)) + draw.normal(u, 1, 10)).argmax(1)
        data[user] = {"x": x.tolist(), "y": y.astype(float).tolist()}
    for part, cut in (("train", slice(0, -10)), ("test", slice(-10, None))):
        some = {user: {key: values[cut] for key, values in of.items()} for user, of in data.items()}
        counts = [len(of["y"]) for of in some.values()]
        content = {"users": users, "num_samples": counts, "user_data": some}
        (tmp_path / part / "data.json").write_text(json.dumps(content))
    losses = {}
    for algorithm in (fedray.FedAvg(), fedray.FedProx(mu=1.0)):
        result = fedray.train(
            fedray.FederatedModel("logistic", fedray.optim.SGD(lr=0.01)),
            fedray.FederatedData.from_leaf(tmp_path),
            fedray.TrainArgs(rounds=30, epochs=20, batch_size=10, tracking=[]),
            algorithm=algorithm,
            sampler=Uniform(10),
            cluster="inline",
            run_dir=tmp_path / type(algorithm).__name__,
            progress=False,
        )
        losses[type(algorithm).__name__] = np.array([record.test["loss"] for record in result.history[15:]])
    assert losses["FedProx"].mean() < 0.9 * losses["FedAvg"].mean()
    prox, avg = (np.abs(np.diff(losses[name])).mean() / losses[name].mean() for name in ("FedProx", "FedAvg"))
    assert prox < avg, "from round to round"
