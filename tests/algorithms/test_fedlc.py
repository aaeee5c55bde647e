"""FedLC and FedRS against the papers' loops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms import FedLC, FedRS
from tests.algorithms import positions
from tests.algorithms.classes import ROUNDS, Classes, assert_is_the_loop


@pytest.mark.parametrize("algorithm", [FedLC(tau=0.5), FedRS(alpha=0.4)], ids=lambda one: one.name)
def test_it_is_the_papers_loop(algorithm: FedLC | FedRS, tmp_path: Path) -> None:
    classes = Classes()
    assert any(bool((classes.counts(client) == 0).any()) for client in range(4)), "some class is absent somewhere"
    w = classes.initial()
    for _ in range(ROUNDS):

        def loss(v: Tensor, client: int) -> Tensor:
            counts, logits = classes.counts(client), classes.outputs(v, classes.x[client])[0]
            if isinstance(algorithm, FedLC):
                logits = logits - algorithm.tau * counts.clamp(min=1e-8) ** -0.25
            else:
                logits = logits * (counts > 0).double().masked_fill(counts == 0, algorithm.alpha)
            return functional.cross_entropy(logits, classes.y[client])

        w = classes.mean([classes.descend(c, w, lambda v, c=c: loss(v, c)) for c in range(4)])  # type: ignore[misc]
    assert_is_the_loop(classes, algorithm, w, tmp_path)


@positions.every_layout
@pytest.mark.parametrize("algorithm", [FedLC(tau=0.5), FedRS(alpha=0.4)], ids=lambda one: one.name)
@pytest.mark.one_in(4)
def test_it_is_the_loop_over_positions(algorithm: FedLC | FedRS, last: bool, tmp_path: Path) -> None:
    """Counts are of the client's positions that count."""
    examples = positions.Positions(last)

    def loss(w: Tensor, client: int, _: Tensor) -> Tensor:
        x, y, counts = examples.counted(client)
        assert counts.min() == 0.0
        z = positions.logits(w, x)
        if isinstance(algorithm, FedLC):
            z = z - algorithm.tau * counts.clamp(min=1e-8) ** -0.25
        else:
            z = torch.where(counts > 0, z, algorithm.alpha * z)
        return -z.log_softmax(1)[torch.arange(len(y)), y].mean()

    positions.assert_is_the_loop(examples, algorithm, examples.descend(loss), tmp_path)
