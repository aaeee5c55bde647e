"""FedExP against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedray.algorithms import FedExP
from tests.algorithms.loops import ROUNDS, LeastSquares, assert_equal_models, trained


def test_fedexp_is_the_papers_loop(tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    steps = []
    for _ in range(ROUNDS):
        changes = [squares.descend(client, w) - w for client in range(4)]
        mean = np.mean(changes, axis=0)
        step = max(1.0, sum(change @ change for change in changes) / (2 * 4 * (mean @ mean + 1e-3)))
        steps.append(step)
        w = w + step * mean
    assert max(steps) > 1.0, "it extrapolates"
    assert_equal_models(trained(squares, FedExP(), tmp_path), w)
