"""The next token, and the tokens of an answer: each by a loop in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedray.core.losses import ignored_class
from fedray.data import DataSpec
from fedray.metrics import Perplexity
from fedray.metrics.means import Accuracy
from fedray.tasks import CausalLM, NextTokens, Seq2SeqLM

DRAW = torch.Generator().manual_seed(6)
LOGITS, TOKENS = torch.randn(4, 7, 5, generator=DRAW), torch.randint(0, 5, (4, 7), generator=DRAW)
PADDING = 4


def by_hand(logits: Tensor, tokens: Tensor, ahead: int) -> tuple[list[float], list[bool]]:
    """Return of each position that counts the loss, and if its likeliest token is right."""
    losses, right = [], []
    for row, said in zip(logits.double().tolist(), tokens.tolist(), strict=True):
        for place in range(len(said) - ahead):
            wanted = said[place + ahead]
            if wanted == PADDING:
                continue
            scores = row[place]
            losses.append(math.log(sum(math.exp(one) for one in scores)) - scores[wanted])
            right.append(max(range(len(scores)), key=scores.__getitem__) == wanted)
    return losses, right


@pytest.mark.parametrize(("kind", "ahead"), [(CausalLM, 1), (Seq2SeqLM, 0)])
def test_loss_perplexity_and_accuracy_are_those_of_a_loop(kind: type[NextTokens], ahead: int) -> None:
    task = kind(ignore_index=PADDING).of(DataSpec((), 5))
    losses, right = by_hand(LOGITS, TOKENS, ahead)
    mean = sum(losses) / len(losses)
    assert float(task.loss(LOGITS, TOKENS)) == pytest.approx(mean, abs=1e-6)
    assert float(task.loss_fn(LOGITS, TOKENS)) == pytest.approx(mean, abs=1e-6)
    assert ignored_class(task.loss_fn) == PADDING
    assert int(task.counts(TOKENS).sum()) == len(losses)
    assert Perplexity().on(LOGITS, TOKENS, task) == pytest.approx(math.exp(mean), rel=1e-6)
    assert Accuracy().on(LOGITS, TOKENS, task) == pytest.approx(sum(right) / len(right))


def test_an_answer_is_padded_as_targets_of_different_lengths_are() -> None:
    task = Seq2SeqLM().of(DataSpec((), 5, padding=5))
    assert (task.ignore_index, task.unsaid, task.pairs) == (5, 0, True)
    assert not CausalLM.pairs
