"""One of several classes."""

from __future__ import annotations

import torch
from torch.nn import functional

from fedray.tasks import Classification
from fedray.tasks.classification import margins

TOKENS = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(1)), torch.arange(35).view(7, 5) % 4


def test_log_odds_are_those_of_the_softmax() -> None:
    for classes in (2, 3):
        logits = TOKENS[0][:, :classes]
        p = logits.double().softmax(dim=1)
        torch.testing.assert_close(margins(logits).double(), (p / (1 - p)).log(), rtol=1e-4, atol=1e-4)


def test_each_position_has_an_answer_a_rank_and_a_probability() -> None:
    output, target = TOKENS
    found, rank = Classification().answers(output, target), Classification().ranking(output, target)
    assert found.predicted.shape == found.actual.shape == Classification().confidence(output).shape == (7, 5)
    assert rank.scores.shape == rank.positive.shape == (7, 4, 5)
    assert bool((rank.positive.sum(dim=1) == 1).all())
    total, count = Classification().entropy(output, target)
    assert bool((count == 5).all())
    torch.testing.assert_close(total.sum() / 35, functional.cross_entropy(output, target))
