"""FedSAM against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedray.algorithms import FedSAM
from tests.algorithms.loops import LR, ROUNDS, STEPS, LeastSquares, Vector, assert_equal_models, trained


def sharp(squares: LeastSquares, client: int, w: Vector, rho: float) -> Vector:
    """The gradient at ``w + rho g / ||g||``."""
    g = squares.gradient(client, w)
    return squares.gradient(client, w + rho * g / np.linalg.norm(g))


def test_fedsam_is_the_papers_loop(tmp_path: Path) -> None:
    squares = LeastSquares()
    w = squares.initial()
    for _ in range(ROUNDS):
        ends = []
        for client in range(4):
            end = w.copy()
            for _ in range(STEPS):
                end -= LR * sharp(squares, client, end, 0.3)
            ends.append(end)
        w = sum(size * end for size, end in zip(squares.sizes, ends, strict=True)) / squares.sizes.sum()
    assert_equal_models(trained(squares, FedSAM(rho=0.3), tmp_path), w)
