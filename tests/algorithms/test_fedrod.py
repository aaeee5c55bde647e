"""Fed-RoD against the paper's loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedray import optim
from fedray.algorithms import FedRoD
from fedray.config.sections import LocalSection
from tests.algorithms import positions
from tests.algorithms.classes import CLASSES, LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import federation, relative, remembered

HEAD = 8 * CLASSES + CLASSES
"""Parameters of the last layer."""


def test_fedrod_is_the_papers_loop(tmp_path: Path) -> None:
    classes = Classes()
    x = classes.initial()
    heads = [torch.zeros(HEAD, dtype=torch.float64)] * 4
    for _ in range(ROUNDS):
        ends = []
        for c in range(4):
            counts, rows, y = classes.counts(c).clamp(min=1e-8), classes.x[c], classes.y[c]
            w = x
            for _ in range(STEPS):
                leaf, head = w.clone().requires_grad_(), heads[c].clone().requires_grad_()
                logits, features = classes.outputs(leaf, rows)
                own = features.detach() @ head[:-CLASSES].view(CLASSES, 8).T + head[-CLASSES:]
                # Softmax weighted by the counts.
                weighted = counts * logits.exp()
                generic: Tensor = -(weighted.gather(1, y[:, None])[:, 0] / weighted.sum(1)).log().mean()
                personal = functional.cross_entropy(logits.detach() + own, y)
                slope, tilt = torch.autograd.grad(generic, leaf)[0], torch.autograd.grad(personal, head)[0]
                w, heads[c] = w - LR * slope, heads[c] - LR * tilt
            ends.append(w)
        x = classes.mean(ends)
    assert_is_the_loop(classes, FedRoD(), x, tmp_path)
    run = federation(
        classes.problem,
        tmp_path,
        FedRoD(),
        optimizer=optim.SGD(LR),
        args=LocalSection(1, None, STEPS),
        rounds=ROUNDS,
        stack=4,
    )
    run.run()
    assert relative(remembered(run)["head"][:, -HEAD:].double(), torch.stack(heads)) <= 1e-5


@positions.every_layout
@pytest.mark.one_in(2)
def test_what_fedrod_sends_is_the_loop_over_positions(last: bool, tmp_path: Path) -> None:
    """The softmax of each position is weighted by the counts of the client's positions that count."""
    examples = positions.Positions(last)

    def loss(w: Tensor, client: int, _: Tensor) -> Tensor:
        x, y, counts = examples.counted(client)
        weighted = counts.clamp(min=1e-8) * positions.logits(w, x).exp()
        return -(weighted[torch.arange(len(y)), y] / weighted.sum(1)).log().mean()

    positions.assert_is_the_loop(examples, FedRoD(), examples.descend(loss), tmp_path)
