"""FedDecorr against the paper's loop, and its correlations against numpy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms import FedDecorr
from fedray.algorithms.feddecorr import correlations
from fedray.local.batches import Batch
from tests.algorithms.classes import ROUNDS, Classes, assert_is_the_loop


def test_feddecorr_is_the_papers_loop(tmp_path: Path) -> None:
    classes, beta = Classes(), 2.0
    w = classes.initial()
    for _ in range(ROUNDS):

        def loss(v: Tensor, client: int) -> Tensor:
            logits, z = classes.outputs(v, classes.x[client])
            correlation = torch.corrcoef(z.T)
            return functional.cross_entropy(logits, classes.y[client]) + beta * correlation.square().sum() / 8**2

        w = classes.mean([classes.descend(c, w, lambda v, c=c: loss(v, c)) for c in range(4)])  # type: ignore[misc]
    assert_is_the_loop(classes, FedDecorr(beta=beta), w, tmp_path)


def test_padding_has_no_part_in_a_correlation() -> None:
    features = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    count = np.array([5, 3])
    share = torch.tensor([[0.2] * 5, [1 / 3] * 3 + [0.0] * 2])
    found = correlations(features, Batch(torch.zeros(2, 5, 1), torch.zeros(2, 5), count, share))
    for row, rows in enumerate(count):
        expected = np.corrcoef(features[row, :rows].numpy().T)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-5)
