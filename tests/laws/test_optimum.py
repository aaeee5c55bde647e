"""Real data: the optimum that scikit-learn finds, and the accuracy that the digits are known for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression

from fedray import optim
from fedray.algorithms import FedAvg, FedSGD
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.losses import cross_entropy
from fedray.data.federated import FederatedData
from fedray.data.partition import Dirichlet
from fedray.data.spec import DataSpec
from fedray.models import MLP, Logistic
from tests.helpers import Problem, federation, seeded


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.one_in(2)
def test_fedsgd_reaches_scikit_learns_optimum(classes: int, tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    x, y = x[y < classes], y[y < classes]
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("f4")
    data = FederatedData.from_partition(x, y, Dirichlet(clients=5, alpha=0.3), seed=2)
    spec = DataSpec((4,), classes)
    problem = Problem(seeded(partial(Logistic(bias=False).build, spec)), cross_entropy, data)
    # scikit-learn minimises C * (sum of losses) + |w|^2 / 2; the mean loss has a decay of 1 / (C n).
    strength = 0.1
    decay = 1.0 / (strength * len(x))
    run = federation(
        problem,
        tmp_path,
        FedSGD(),
        optimizer=optim.SGD(1.0, weight_decay=decay),
        rounds=300,
        evaluate=EvaluateSection(0),
        stack=5,
    )
    run.run()
    weight = run.plan.layout.unpack(run.vector)
    coefficients = next(iter(weight.values())).numpy()
    if classes == 2:
        # scikit-learn has one row w for two classes, we have w / 2 and -w / 2, whose squares are half of w's.
        coefficients, strength = coefficients[1:] - coefficients[:1], 2 * strength
    theirs = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, y).coef_
    np.testing.assert_allclose(coefficients, theirs, atol=1e-3)
    assert np.abs(theirs).max() > 0.3


def test_digits_over_twenty_skewed_clients_reach_95_percent(tmp_path: Path) -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("f4")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1437], order[1437:]
    data = FederatedData.from_partition(
        x[train], y[train], Dirichlet(clients=20, alpha=0.3), seed=1, test=(x[test], y[test])
    )
    problem = Problem(seeded(partial(MLP([64]).build, DataSpec((64,), 10))), cross_entropy, data)
    run = federation(
        problem,
        tmp_path,
        FedAvg(),
        optimizer=optim.SGD(0.1, momentum=0.9),
        args=LocalSection(2, 16),
        rounds=25,
        evaluate=EvaluateSection(25),
        stack=20,
    )
    assert run.run()[-1].test["accuracy"] >= 0.95
    assert torch.isfinite(run.vector).all()
