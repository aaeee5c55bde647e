"""FedVARP against the paper's loop, whose server keeps every client's last update."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.algorithms import FedVARP
from fedray.sampling import Full, Sampler, Uniform
from tests.algorithms.loops import ROUNDS, LeastSquares, assert_equal_models, trained


@pytest.mark.parametrize("sampler", [Full(), Uniform(2)], ids=repr)
def test_fedvarp_is_the_papers_loop(sampler: Sampler, tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    last = np.zeros((4, len(w)))
    for number in range(1, ROUNDS + 1):
        cohort = sampler.cohort(squares.problem.data.sizes, 7, number)
        updates = np.array([squares.descend(client, w) - w for client in cohort])
        w = w + 0.8 * ((updates - last[cohort]).mean(axis=0) + last.mean(axis=0))
        last[cohort] = updates
    assert_equal_models(trained(squares, FedVARP(server_lr=0.8), tmp_path, sampler=sampler), w)
