"""FedALA against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import torch

from fedray.algorithms import FedALA
from tests.algorithms.classes import CLASSES, LR, ROUNDS, STEPS, Classes, assert_is_the_loop

HEAD = 8 * CLASSES + CLASSES
"""Parameters of the last layer."""


def test_fedala_is_the_papers_loop(tmp_path: Path) -> None:
    classes, eta = Classes(), 3.0
    x = classes.initial()
    own, weights = [x] * 4, [torch.ones(HEAD, dtype=torch.float64)] * 4
    for _ in range(ROUNDS):
        ends = []
        for c in range(4):

            def mixed(weight: torch.Tensor, v: torch.Tensor = own[c], x: torch.Tensor = x) -> torch.Tensor:
                return torch.cat([x[:-HEAD], v[-HEAD:] + (x - v)[-HEAD:] * weight])

            slope = classes.gradient(c, mixed(weights[c]))[-HEAD:] * (x - own[c])[-HEAD:]
            weights[c] = (weights[c] - eta * slope).clamp(0, 1)
            w = mixed(weights[c])
            for _ in range(STEPS):
                w = w - LR * classes.gradient(c, w)
            own[c] = w
            ends.append(w)
        x = classes.mean(ends)
    assert all(0.0 < float((weight < 1).double().mean()) < 1.0 for weight in weights)
    assert_is_the_loop(classes, FedALA(eta=eta), x, tmp_path, own)
