"""q-FedAvg against the paper's loop, and its limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.algorithms import FedAvg, QFedAvg
from tests.algorithms.loops import LR, ROUNDS, LeastSquares, assert_equal_models, trained


@pytest.mark.parametrize("q", [0.5, 2.0])
def test_qfedavg_is_the_papers_loop(q: float, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    for _ in range(ROUNDS):
        changes, steepness = [], []
        for client in range(4):
            rest = squares.x[client] @ w - squares.y[client]
            loss = 0.5 * float(rest @ rest) / len(rest)
            whole = (squares.descend(client, w) - w) / LR  # L (w_k - x)
            changes.append(loss**q * whole)
            steepness.append(q * loss ** (q - 1) * whole @ whole + loss**q / LR)
        w = w + np.sum(changes, axis=0) / sum(steepness)
    assert_equal_models(trained(squares, QFedAvg(q=q), tmp_path), w)


def test_without_a_power_it_is_fedavg_with_a_plain_mean(tmp_path: Path) -> None:
    squares = LeastSquares()
    plain = trained(squares, FedAvg(weight="uniform"), tmp_path / "plain")
    assert_equal_models(trained(squares, QFedAvg(q=0.0), tmp_path / "q"), plain)
