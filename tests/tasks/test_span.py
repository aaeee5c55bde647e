"""Spans: their loss and what is predicted, by loops in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.metrics import ExactMatch
from fedray.metrics.means import Accuracy
from fedray.tasks import Span
from fedray.tasks.span import best_span

DRAW = torch.Generator().manual_seed(8)
LOGITS = torch.randn(40, 7, 2, generator=DRAW)
TARGETS = torch.randint(0, 7, (40, 2), generator=DRAW).sort(dim=1).values
NONE = 9
SOME = torch.where(torch.arange(40)[:, None] % 4 == 0, NONE, TARGETS)  # each fourth row has no span
EXACT = torch.cat([best_span(LOGITS[:8]), TARGETS[8:]])


def pairs(output: Tensor) -> list[tuple[int, int]]:
    """The likeliest of all pairs whose last place is not before the first."""
    found = []
    for row in output.double().tolist():
        scores = {(i, j): row[i][0] + row[j][1] for i in range(len(row)) for j in range(i, len(row))}
        found.append(max(scores, key=scores.__getitem__))
    return found


def by_hand(output: Tensor, target: Tensor) -> float:
    losses = list[float]()
    for row, ends in zip(output.double().tolist(), target.tolist(), strict=True):
        for side, place in enumerate(ends):
            if place != NONE:
                scores = [one[side] for one in row]
                losses.append(math.log(sum(math.exp(one) for one in scores)) - scores[place])
    return sum(losses) / len(losses)


def test_the_best_pair_is_that_of_all_pairs_in_order() -> None:
    assert [tuple(one) for one in best_span(LOGITS).tolist()] == pairs(LOGITS)
    assert (LOGITS[..., 0].argmax(dim=1) > LOGITS[..., 1].argmax(dim=1)).any(), "some are not in order by themselves"


@pytest.mark.parametrize("target", [TARGETS, SOME])
def test_loss_and_metrics_are_those_of_a_loop(target: Tensor) -> None:
    task = Span(ignore_index=NONE).of(DataSpec((), 7))
    assert float(task.loss(LOGITS, target)) == pytest.approx(by_hand(LOGITS, target), abs=1e-6)
    assert float(task.loss_fn(LOGITS, target)) == pytest.approx(by_hand(LOGITS, target), abs=1e-6)
    assert int(task.counts(target).sum()) == int((target != NONE).sum())


def test_an_exact_match_has_both_ends_and_rows_without_a_span_do_not_count() -> None:
    task = Span(ignore_index=NONE).of(DataSpec((), 7))
    target = torch.where(SOME == NONE, NONE, EXACT)
    said, counted = pairs(LOGITS), [row for row in range(40) if int(target[row, 0]) != NONE]
    both = [said[row] == tuple(target[row].tolist()) for row in counted]
    each = [said[row][side] == int(target[row, side]) for row in counted for side in (0, 1)]
    assert ExactMatch().on(LOGITS, target, task) == pytest.approx(sum(both) / len(both))
    assert Accuracy().on(LOGITS, target, task) == pytest.approx(sum(each) / len(each))
    assert 0 < sum(both) < len(both)


def test_other_shapes_are_refused() -> None:
    Span().check((5, 7, 2), (5, 2))
    for shape, target in (((5, 7), (5, 2)), ((5, 7, 3), (5, 2)), ((5, 7, 2), (5,))):
        with pytest.raises(ConfigError, match=r"span has logits \[B, T, 2\] for targets \[B, 2\]"):
            Span().check(shape, target)


class Pointing(nn.Module):
    """Says of each token if a span begins or ends there."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(12, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(input_ids)).masked_fill(attention_mask[..., None] == 0, -9.0)
        return found


def test_a_run_learns_where_spans_of_texts_of_any_length_are(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    rows, ends = [], []
    for length in draw.integers(4, 30, 24):
        first = int(draw.integers(0, length - 2))
        row = draw.integers(1, 9, length)
        row[first], row[first + 2] = 10, 11
        rows.append(row)
        ends.append((first, first + 2))
    x = {"input_ids": fedray.Ragged.of(rows, mask="attention_mask", multiple=8)}
    data = fedray.FederatedData.from_arrays(x, np.array(ends), clients=np.arange(24) % 3, test=(x, np.array(ends)))
    args = fedray.TrainArgs(rounds=6, batch_size=4, optimizer={"name": "adamw", "lr": 0.3})
    model = fedray.FederatedModel(Pointing, task="span")
    result = fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    assert result.history[-1].test["exact_match"] == 1.0
    found = fedray.load(tmp_path / "run", model=Pointing).predict(x)
    assert found.predicted.tolist() == [list(one) for one in ends]
    assert found.to_csv().splitlines()[:2] == ['"predicted_0","predicted_1"', f"{ends[0][0]},{ends[0][1]}"]
