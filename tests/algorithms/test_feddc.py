"""FedDC against the loop of its paper and its authors' code, with all clients and with some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.algorithms import FedDC
from fedray.sampling import Full, Sampler, Uniform
from tests.algorithms.loops import LR, ROUNDS, STEPS, LeastSquares, assert_equal_models, trained


@pytest.mark.parametrize("sampler", [Full(), Uniform(2)], ids=repr)
def test_feddc_is_the_papers_loop(sampler: Sampler, tmp_path: Path) -> None:
    squares, alpha = LeastSquares(), 0.5
    w = squares.initial()
    drift, control, server = np.zeros((4, len(w))), np.zeros((4, len(w))), 0.0 * w
    for number in range(1, ROUNDS + 1):
        cohort = sampler.cohort(squares.problem.data.sizes, 7, number)
        ends, changes = [], []
        for client in cohort:
            end = w.copy()
            for _ in range(STEPS):
                penalty = alpha * (end + drift[client] - w)
                end -= LR * (squares.gradient(client, end) + penalty - control[client] + server)
            drift[client] += end - w
            renewed = control[client] - server + (w - end) / (STEPS * LR)
            changes.append(renewed - control[client])
            control[client] = renewed
            ends.append(end)
        w = np.mean(ends, axis=0) + drift.mean(axis=0)
        server = server + np.sum(changes, axis=0) / 4
    assert_equal_models(trained(squares, FedDC(alpha=alpha), tmp_path, sampler=sampler), w)
