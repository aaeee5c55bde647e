"""AFL against the paper's loop, and its limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from fedray.algorithms import AFL, FedAvg
from tests.algorithms.loops import ROUNDS, LeastSquares, Vector, assert_equal_models, trained


def nearest(point: Vector) -> Vector:
    """The nearest point of the simplex, by a solver."""
    level = brentq(lambda level: np.maximum(point - level, 0.0).sum() - 1.0, point.min() - 1.0, point.max(), xtol=1e-15)
    found: Vector = np.maximum(point - level, 0.0)
    return found


@pytest.mark.parametrize("gamma", [0.05, 0.5])
def test_afl_is_the_papers_loop(gamma: float, tmp_path: Path) -> None:
    squares = LeastSquares()
    w, shares = squares.initial(), np.full(4, 0.25)
    for _ in range(ROUNDS):
        rests = [squares.x[client] @ w - squares.y[client] for client in range(4)]
        losses = np.array([0.5 * (rest @ rest) / len(rest) for rest in rests])
        w = w + sum(shares[client] * (squares.descend(client, w) - w) for client in range(4))
        shares = nearest(shares + gamma * losses)
    assert shares.max() > 0.26
    assert_equal_models(trained(squares, AFL(gamma=gamma), tmp_path), w)


def test_without_a_step_of_the_shares_it_is_fedavg_with_a_plain_mean(tmp_path: Path) -> None:
    squares = LeastSquares()
    plain = trained(squares, FedAvg(weight="uniform"), tmp_path / "plain")
    assert_equal_models(trained(squares, AFL(gamma=0.0), tmp_path / "afl"), plain)
