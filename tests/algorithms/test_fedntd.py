"""FedNTD against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms import FedNTD
from tests.algorithms import positions
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


@positions.every_layout
@pytest.mark.one_in(2)
def test_fedntd_is_the_loop_over_positions(last: bool, tmp_path: Path) -> None:
    """Both terms are means over the client's positions that count."""
    examples, beta, tau = positions.Positions(last), 0.7, 2.0

    def loss(w: Tensor, client: int, taught: Tensor) -> Tensor:
        x, y, _ = examples.counted(client)
        total = torch.zeros((), dtype=torch.float64)
        for row, label in zip(x, y.tolist(), strict=True):
            own, teacher = (positions.logits(model, row[None])[0] for model in (w, taught))
            others = [k for k in range(positions.CLASSES) if k != label]
            p, q = (torch.softmax(z[others] / tau, 0) for z in (teacher, own))
            total = total - own.log_softmax(0)[label] + beta * tau**2 * (p * (p / q).log()).sum()
        return total / len(y)

    positions.assert_is_the_loop(examples, FedNTD(beta=beta, tau=tau), examples.descend(loss), tmp_path)
