"""A few rounds of the server's half of an algorithm, and the same by Flower's strategies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray.aggregators import Mean
from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import compose
from fedray.config.sections import LocalSection
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate
from fedray.server import Server, ServerOptimizer
from tests.aggregators.test_mean import NOW, update

SIZE = 6
ROUNDS = 6
WEIGHTS = [3.0, 10.0, 1.0, 6.0]

Floats = NDArray[np.float64]


def started(config: Algorithm, vector: Tensor, optimizer: ServerOptimizer | None = None) -> Server:
    """The server of four clients, whose model is ``vector``."""
    parts = compose(config, [], Mean(), LocalSection(), optimizer)
    return parts.start(vector, Layout.of(nn.Linear(SIZE - 1, 1)), 4, 2, 7)


def updates(round: int) -> Tensor:
    """The clients' updates of a round, over several magnitudes."""
    draw = np.random.default_rng(round)
    return torch.from_numpy((draw.standard_normal((4, SIZE)) * 10.0 ** (-np.arange(SIZE) / 2)).astype("f4"))


def aggregate(round: int) -> Aggregate:
    """Their mean."""
    mean = Mean()
    total = mean.zero({"delta": SIZE}, "cpu")
    mean.add(total, update(updates(round), WEIGHTS), sum(WEIGHTS))
    return mean.finish(total, sum(WEIGHTS), sum(WEIGHTS), 4, NOW)


def start() -> Tensor:
    return torch.linspace(-1.0, 1.0, SIZE)


def ours(
    config: Algorithm,
    optimizer: ServerOptimizer | None = None,
    lr: Callable[[int], float] | None = None,
) -> list[Tensor]:
    """The global vector after each round; ``lr`` sets the step size of each."""
    vector = start()
    server = started(config, vector, optimizer)
    history = []
    for round in range(1, ROUNDS + 1):
        if lr is not None:
            server.optimizer = replace(server.optimizer, lr=lr(round))
        server.enter(round)
        config.step(server, aggregate(round))
        history.append(vector.clone())
    return history


def flowers(name: str, **options: float) -> list[Floats]:
    """The same by a Flower strategy, in float64."""
    reason = "Flower, the oracle of server optimizers, is not installed (make test installs it)"
    common = pytest.importorskip("flwr.common", reason=reason)
    strategies = pytest.importorskip("flwr.server.strategy", reason=reason)
    current = start().double().numpy()
    strategy = getattr(strategies, name)(initial_parameters=common.ndarrays_to_parameters([current]), **options)
    history = []
    for round in range(1, ROUNDS + 1):
        status = common.Status(common.Code.OK, "")
        results: list[tuple[None, Any]] = [
            (None, common.FitRes(status, common.ndarrays_to_parameters([current + row]), int(weight), {}))
            for row, weight in zip(updates(round).double().numpy(), WEIGHTS, strict=True)
        ]
        parameters, _ = strategy.aggregate_fit(round, results, [])
        current = common.parameters_to_ndarrays(parameters)[0]
        history.append(current)
    return history


def assert_same(mine: list[Tensor], theirs: list[Floats]) -> None:
    assert len(mine) == len(theirs) == ROUNDS
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=2e-6, atol=2e-6)
    # The rounds moved it by far more than the tolerance.
    assert float((mine[-1] - start()).abs().min()) > 5e-5
