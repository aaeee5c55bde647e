"""FedNTD against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms import FedNTD
from tests.algorithms.classes import CLASSES, ROUNDS, Classes, assert_is_the_loop


def test_fedntd_is_the_papers_loop(tmp_path: Path) -> None:
    classes, beta, tau = Classes(), 0.7, 2.0
    w = classes.initial()
    for _ in range(ROUNDS):

        def loss(v: Tensor, client: int, x: Tensor = w) -> Tensor:
            rows, y = classes.x[client], classes.y[client]
            own, teacher = classes.outputs(v, rows)[0], classes.outputs(x, rows)[0]
            distilled = []
            for row, label in enumerate(y.tolist()):
                others = [k for k in range(CLASSES) if k != label]
                p, q = (torch.softmax(logits[row, others] / tau, 0) for logits in (teacher, own))
                distilled.append((p * (p / q).log()).sum())
            return functional.cross_entropy(own, y) + beta * tau**2 * torch.stack(distilled).mean()

        w = classes.mean([classes.descend(c, w, lambda v, c=c: loss(v, c)) for c in range(4)])  # type: ignore[misc]
    assert_is_the_loop(classes, FedNTD(beta=beta, tau=tau), w, tmp_path)
