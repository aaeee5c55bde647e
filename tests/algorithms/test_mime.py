"""Mime and MimeLite against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.algorithms import Mime
from tests.algorithms.classes import LR, ROUNDS, STEPS, Classes, assert_is_the_loop


@pytest.mark.parametrize("lite", [False, True], ids=["mime", "lite"])
@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.one_in(2)
def test_mime_is_the_papers_loop(beta: float, lite: bool, tmp_path: Path) -> None:
    classes = Classes()
    x = classes.initial()
    momentum = 0.0 * x
    for _ in range(ROUNDS):
        gradients = [classes.gradient(client, x) for client in range(4)]
        mean, ends = classes.mean(gradients), []
        for client in range(4):
            y = x.clone()
            for _ in range(STEPS):
                own = classes.gradient(client, y)
                own = own if lite else own - gradients[client] + mean
                y = y - LR * ((1 - beta) * own + beta * momentum)
            ends.append(y)
        x, momentum = classes.mean(ends), beta * momentum + (1 - beta) * mean
    assert_is_the_loop(classes, Mime(beta=beta, lite=lite), x, tmp_path)


@pytest.mark.parametrize("beta", [1.0, -0.1])
def test_a_share_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta=.*: it must be at least 0 and below 1"):
        Mime(beta=beta)
