"""FedCM and MoFedSAM against the papers' loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.algorithms import FedCM, MoFedSAM
from tests.algorithms.loops import LR, ROUNDS, STEPS, LeastSquares, assert_equal_models, trained
from tests.algorithms.test_fedsam import sharp


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_it_is_the_papers_loop(rho: float, tmp_path: Path) -> None:
    squares, alpha = LeastSquares(), 0.3
    w = squares.initial()
    momentum = 0.0 * w
    for _ in range(ROUNDS):
        ends = []
        for client in range(4):
            end = w.copy()
            for _ in range(STEPS):
                own = sharp(squares, client, end, rho) if rho else squares.gradient(client, end)
                end -= LR * (alpha * own + (1 - alpha) * momentum)
            ends.append(end)
        mean = sum(size * end for size, end in zip(squares.sizes, ends, strict=True)) / squares.sizes.sum()
        momentum, w = (w - mean) / (LR * STEPS), mean
    algorithm = MoFedSAM(alpha=alpha, rho=rho) if rho else FedCM(alpha=alpha)
    assert_equal_models(trained(squares, algorithm, tmp_path), w)
