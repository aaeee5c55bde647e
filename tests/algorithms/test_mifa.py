"""MIFA against the paper's loop: the mean of every client's last update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.algorithms import MIFA
from fedray.sampling import Full, Sampler, Uniform
from tests.algorithms.loops import ROUNDS, LeastSquares, assert_equal_models, trained


@pytest.mark.parametrize("sampler", [Full(), Uniform(2)], ids=repr)
def test_mifa_is_the_papers_loop(sampler: Sampler, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    last = [0.0 * w for _ in range(4)]
    for number in range(1, ROUNDS + 1):
        for client in sampler.cohort(squares.problem.data.sizes, 7, number):
            last[client] = squares.descend(client, w) - w
        w = w + np.mean(last, axis=0)
    assert_equal_models(trained(squares, MIFA(), tmp_path, sampler=sampler), w)
