"""Least squares in float64 numpy, for loops written from the papers: nothing of fedray's engine is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedray import optim
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.sampling import Sampler
from tests.helpers import Problem, federation, linear_problem

Vector = NDArray[np.float64]

LR = 0.1
STEPS = 3
ROUNDS = 4


class Clients(Protocol):
    """Those of a problem."""

    problem: Problem


class LeastSquares:
    """The clients of a linear problem with their rows as float64; a model is ``[weights, bias]``."""

    def __init__(self, problem: Problem | None = None) -> None:
        self.problem = problem or linear_problem(4, sizes=(5, 9, 7, 4))
        data = self.problem.data
        rows = [data.rows(np.array([c])).take(np.arange(data.sizes[c])[None]) for c in range(len(data))]
        self.x = [np.hstack([x[0].double().numpy(), np.ones((x.shape[1], 1))]) for x, _ in rows]
        self.y = [y[0, :, 0].double().numpy() for _, y in rows]
        self.sizes = np.array([len(y) for y in self.y], dtype=np.float64)

    def gradient(self, client: int, w: Vector) -> Vector:
        """Return the gradient of half the mean squared error of all of a client's rows."""
        x, y = self.x[client], self.y[client]
        gradient: Vector = x.T @ (x @ w - y) / len(y)
        return gradient

    def initial(self) -> Vector:
        """Return the first model."""
        module = self.problem.model_fn()
        return torch.cat([p.detach().flatten() for p in module.parameters()]).double().numpy()

    def descend(self, client: int, start: Vector, pull: Callable[[Vector], Vector] = np.zeros_like) -> Vector:
        """Take a client's local steps along ``gradient + pull(w)`` and return where they end."""
        w = start.copy()
        for _ in range(STEPS):
            w -= LR * (self.gradient(client, w) + pull(w))
        return w


def trained(
    squares: Clients,
    algorithm: Algorithm,
    folder: Path,
    args: LocalSection | None = None,
    sampler: Sampler | None = None,
) -> Vector:
    """Run fedray on the same clients, by default everyone in every round, and return the last model."""
    run = federation(
        squares.problem,
        folder,
        algorithm,
        optimizer=optim.SGD(LR),
        args=args or LocalSection(1, None, STEPS),
        rounds=ROUNDS,
        sampler=sampler,
    )
    run.run()
    return run.vector.double().numpy()


def assert_equal_models(ours: Vector, paper: Vector) -> None:
    """Compare in units of the largest entry, with float32's precision."""
    assert float(np.abs(ours - paper).max() / np.abs(paper).max()) <= 1e-5
