"""The mean over those who hold an entry: against a loop, in any grouping and order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedray.aggregators import Mean
from fedray.aggregators.holders import MeanOfHolders
from fedray.algorithms import FedRolex, HeteroFL
from fedray.core.messages import BUFFERS, DELTA, BlockUpdate
from fedray.core.now import Now
from fedray.local.variants import Submodels
from tests.helpers import class_problem, local_task
from tests.local.test_variants import model

ROUND = 2


def submodels(program: HeteroFL) -> Submodels:
    found = local_task(class_problem(model_fn=model), program=program, stack="off").submodels
    assert found is not None
    return found


def updates(models: Submodels, count: int = 9) -> list[BlockUpdate]:
    """Blocks of one client each."""
    draw = torch.Generator().manual_seed(4)
    found = []
    for client in range(count):
        number = client % len(models)
        layout = models.layouts[number]
        parts = {name: torch.randn(1, span.stop - span.start, generator=draw) for name, span in layout.spans.items()}
        parts[BUFFERS] *= 1000.0
        one = np.ones(1)
        weight, seen = (client + 0.25) * one, np.ones(1, dtype=np.int64)
        found.append(BlockUpdate(ROUND, np.array([client]), parts, {}, weight, one, seen, variant=number))
    return found


@pytest.mark.parametrize("program", [HeteroFL(), FedRolex([0.5, 0.25])], ids=str)
def test_it_is_the_mean_over_holders_in_any_order(program: HeteroFL) -> None:
    models = submodels(program)
    mean, blocks = MeanOfHolders(models), updates(models)
    layout, weight = models.layout, sum(float(update.weight.sum()) for update in blocks)
    sent = {name: span.stop - span.start for name, span in layout.spans.items()}
    results = []
    for workers, order in ((1, range(9)), (3, [8, 2, 5, 0, 7, 1, 3, 6, 4])):
        folded = [mean.zero(mean.widths(sent), "cpu") for _ in range(workers)]
        for position, number in enumerate(order):
            mean.add(folded[position % workers], blocks[number], weight)
        for other in folded[1:]:
            mean.merge(folded[0], other)
        results.append(mean.finish(folded[0], weight, weight, 9, Now(1, ROUND)))
    for name, width in sent.items():
        assert torch.equal(results[0][name], results[1][name])
        total, held = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
        for update in blocks:
            places = models.places_of(name, update.variant, ROUND)
            total[places] += float(update.weight[0]) * update.parts[name][0].double()
            held[places] += float(update.weight[0])
        expected = torch.where(held > 0, total / held.clamp(min=1e-9), 0.0)
        assert torch.allclose(results[0][name].double(), expected, rtol=1e-6, atol=1e-9)
    assert results[0].count == 9


def test_with_the_whole_model_alone_it_is_the_mean_bitwise() -> None:
    models = submodels(HeteroFL([1.0]))
    blocks, sent = updates(models), {name: s.stop - s.start for name, s in models.layout.spans.items()}
    found = []
    for aggregator in (Mean(), MeanOfHolders(models)):
        into = aggregator.zero(aggregator.widths(sent), "cpu")
        for update in blocks:
            aggregator.add(into, update, 50.0)
        found.append(aggregator.finish(into, sum(float(u.weight[0]) for u in blocks), 50.0, 9, Now(1, ROUND)))
    for name in sent:
        assert torch.equal(found[0][name], found[1][name])


def test_nothing_of_a_block_out_of_range_is_folded() -> None:
    models = submodels(HeteroFL())
    mean, (update, *_) = MeanOfHolders(models), updates(models)
    update.parts[DELTA][0, 0] = float("nan")
    into = mean.zero(mean.widths({DELTA: 1, BUFFERS: 1}), "cpu")
    with pytest.raises(ArithmeticError, match="delta is not finite"):
        mean.add(into, update, 1.0)
    assert all(not part.any() for part in into.values())
