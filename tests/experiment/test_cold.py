"""Running statistics that stay with their client, and are cold where clients take part in few rounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedray.algorithms import FedAvg, FedBN
from fedray.algorithms.base import Algorithm
from fedray.config.sections import BufferPolicy, EvaluateSection, LocalSection
from fedray.experiment.cold import cold
from fedray.sampling import Full, Sampler, Uniform
from tests.helpers import class_problem, tried_task


def norm(momentum: float | None = 0.1) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=momentum), nn.Linear(4, 3))


def pretrained() -> nn.Module:
    module = norm()
    torch.nn.init.ones_(module[1].running_mean)  # type: ignore[index]
    return module


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def said(
    model: Callable[[], nn.Module] = norm,
    algorithm: Algorithm | None = None,
    buffers: BufferPolicy = "mean",
    sampler: Sampler | None = None,
    rounds: int = 10,
    every: int = 1,
) -> str:
    problem = class_problem(sizes=(16,) * 10, model_fn=model, holdout=0.25)
    task = tried_task(problem, args=LocalSection(2, 6), program=algorithm or FedBN(), buffers=buffers)
    return cold(task, EvaluateSection(clients_every=every), sampler or Uniform(2), rounds)


def test_who_takes_part_in_few_rounds_has_cold_statistics() -> None:
    """Two of ten a round: 0.8 to the power of 10 never; of two epochs of two batches in 2.2 rounds 0.9^9 is left."""
    words = said()
    assert "the running statistics of BatchNorm1d stay with their client" in words
    assert "about 11% of the clients have not taken part" in words
    assert "39% of that beginning is left" in words
    assert "larger cohorts or a larger momentum, such as BatchNorm1d(..., momentum=0.9)" in words
    assert said(algorithm=FedAvg(), buffers="local") == words


@pytest.mark.parametrize(
    "words",
    [
        said(rounds=60),
        said(algorithm=FedAvg()),
        said(every=0),
        said(layer_norm),
        said(pretrained),
        said(lambda: norm(None), sampler=Full()),
        said(lambda: norm(0.9), sampler=Full()),
    ],
    ids=["many rounds", "averaged", "not evaluated", "no statistics", "warm", "cumulative", "fast"],
)
def test_what_is_warm_or_not_looked_at_is_not_advised_on(words: str) -> None:
    assert words == ""
