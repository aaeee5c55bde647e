"""FedDyn against the paper's loop, with all clients and with some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.algorithms import FedDyn
from fedray.sampling import Full, Sampler, Uniform
from tests.algorithms.loops import LR, ROUNDS, STEPS, LeastSquares, assert_equal_models, trained


@pytest.mark.parametrize("sampler", [Full(), Uniform(2)], ids=repr)
def test_feddyn_is_the_papers_loop(sampler: Sampler, tmp_path: Path) -> None:
    squares, alpha = LeastSquares(), 0.5
    w = squares.initial()
    server, own = 0.0 * w, [0.0 * w for _ in range(4)]
    sizes = squares.problem.data.sizes
    for number in range(1, ROUNDS + 1):
        cohort = sampler.cohort(sizes, 7, number)
        ends = []
        for client in cohort:
            end = w.copy()
            for _ in range(STEPS):
                end -= LR * (squares.gradient(client, end) - own[client] + alpha * (end - w))
            own[client] = own[client] - alpha * (end - w)
            ends.append(end)
        server = server - alpha / 4 * sum(end - w for end in ends)
        w = np.mean(ends, axis=0) - server / alpha
    assert_equal_models(trained(squares, FedDyn(alpha=alpha), tmp_path, sampler=sampler), w)
