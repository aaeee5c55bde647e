"""Streaming DiLoCo against a loop of the paper's in float64, its limit, and what travels in its rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.algorithms import StreamingDiLoCo
from fedray.config.sections import LocalSection
from fedray.optim import AdamW
from tests.algorithms.loops import LeastSquares, assert_equal_models
from tests.algorithms.test_diloco import Moments
from tests.helpers import federation

LR, DECAY, STEPS = 0.05, 0.1, 3


def papers_loop(squares: LeastSquares, fragments: list[np.ndarray], steps: int, alpha: float, tau: int) -> np.ndarray:
    """Algorithm 2 of arXiv:2501.18512, step by step: fragment p is sent after steps t_p, t_p + H, ..."""
    period, size = STEPS * len(fragments), len(squares.initial())
    x = squares.initial()
    own = [x.copy() for _ in squares.x]
    moments = [Moments(size) for _ in own]
    velocity, waiting = np.zeros(size), dict[int, tuple[np.ndarray, np.ndarray]]()
    for t in range(1, steps + 1):
        for m in range(len(own)):
            own[m] = moments[m].step(own[m], squares.gradient(m, own[m]), LR, DECAY)
        for p, columns in enumerate(fragments):
            offset = (p + 1) * STEPS
            if t >= offset and (t - offset) % period == 0:
                outer = x[columns] - np.mean([w[columns] for w in own], axis=0)
                velocity[columns] = 0.8 * velocity[columns] + outer
                x[columns] = x[columns] - 0.5 * (outer + 0.8 * velocity[columns])
                waiting[t + tau] = columns, x[columns].copy()
        if t in waiting:
            columns, received = waiting.pop(t)
            for w in own:
                w[columns] = alpha * w[columns] + (1 - alpha) * received
    return x


@pytest.mark.parametrize("rounds", [1, 2, 3, 7])
@pytest.mark.parametrize(("alpha", "delay"), [(0.0, 0), (0.5, 0), (0.5, 2), (0.0, 1)])
def test_streaming_diloco_is_the_papers_loop(alpha: float, delay: int, rounds: int, tmp_path: Path) -> None:
    squares = LeastSquares()
    size = len(squares.initial())
    weights, bias = np.arange(size - 1), np.array([size - 1])
    expected = papers_loop(squares, [weights, bias], rounds * STEPS, alpha, delay)
    run = federation(
        squares.problem,
        tmp_path,
        StreamingDiLoCo(server_lr=0.5, momentum=0.8, fragments=2, alpha=alpha, delay=delay),
        optimizer=AdamW(LR, weight_decay=DECAY),
        args=LocalSection(1, None, STEPS),
        rounds=rounds,
    )
    run.run()
    assert_equal_models(run.vector.double().numpy(), expected)
