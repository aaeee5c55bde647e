"""The weighted mean: the same bits in every grouping and order, and the number that numpy gives."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedray.aggregators import Mean, UpdateOutOfRange
from fedray.aggregators.base import Accumulator
from fedray.aggregators.exact import LIMIT
from fedray.core.messages import Aggregate, BlockUpdate

WIDTH = 7


def update(rows: Tensor, weight: list[float], **parts: Tensor) -> BlockUpdate:
    """A block's updates, with only what an aggregator looks at filled in."""
    count = len(rows)
    return BlockUpdate(
        round=1,
        clients=np.arange(count),
        parts={"delta": rows, **parts},
        state={},
        weight=np.array(weight, dtype=np.float64),
        loss=np.zeros(count),
        examples=np.ones(count, dtype=np.int64),
    )


def blocks_of(count: int, size: int, scale: float, seed: int) -> tuple[Tensor, list[float], list[BlockUpdate]]:
    """Rows over many magnitudes, weights, and both cut into blocks."""
    draw = np.random.default_rng(seed)
    powers = draw.integers(-12, 1, (count, WIDTH)).astype("f8")
    rows = torch.from_numpy((draw.standard_normal((count, WIDTH)) * scale * 10.0**powers).astype("f4"))
    weight = draw.integers(1, 200, count).astype("f8").tolist()
    cuts = [*range(0, count, size), count]
    return rows, weight, [update(rows[a:b].clone(), weight[a:b]) for a, b in pairwise(cuts)]


def fold(workers: list[list[BlockUpdate]], planned: float) -> Accumulator:
    """Each worker folds its blocks; the driver merges the workers' accumulators."""
    mean, widths = Mean(), {"delta": WIDTH}
    total = mean.zero(widths, "cpu")
    for blocks in workers:
        mine = mean.zero(widths, "cpu")
        for block in blocks:
            mean.add(mine, block, planned)
        mean.merge(total, mine)
    return total


@given(
    st.integers(1, 30),
    st.integers(1, 7),
    st.sampled_from([1e-6, 1.0, 1e4]),
    st.integers(0, 2**16),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_no_grouping_and_no_order_changes_a_bit(
    count: int, size: int, scale: float, seed: int, workers: int, order: random.Random
) -> None:
    _, weight, blocks = blocks_of(count, size, scale, seed)
    planned = sum(weight)
    expected = fold([blocks], planned)["delta"]
    shuffled = list(blocks)
    order.shuffle(shuffled)
    shares: list[list[BlockUpdate]] = [[] for _ in range(workers)]
    for block in shuffled:
        shares[order.randrange(workers)].append(block)
    assert torch.equal(fold(shares, planned)["delta"], expected)


def test_the_largest_values_allowed_still_sum_exactly() -> None:
    draw = np.random.default_rng(1)
    rows = torch.from_numpy(draw.uniform(0.5, 0.999, (64, WIDTH)).astype("f4")) * LIMIT
    blocks = [update(row[None], [1.0]) for row in rows]
    expected = fold([blocks], 64.0)["delta"]
    for _ in range(20):
        order = draw.permutation(64)
        assert torch.equal(
            fold([[blocks[i] for i in order[:20]], [blocks[i] for i in order[20:]]], 64.0)["delta"], expected
        )


@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from([1e-3, 1.0, 100.0]), st.integers(0, 2**16))
def test_it_is_numpys_weighted_mean(count: int, size: int, scale: float, seed: int) -> None:
    rows, weight, blocks = blocks_of(count, size, scale, seed)
    got = Mean().finish(fold([blocks], sum(weight)), sum(weight), sum(weight), count)
    expected = np.average(rows.double().numpy(), axis=0, weights=weight)
    largest = float(rows.abs().max())
    np.testing.assert_allclose(got.parts["delta"].numpy(), expected, rtol=1e-6, atol=1e-6 * largest)
    assert got.parts["delta"].dtype == torch.float32
    assert (got.weight, got.count) == (sum(weight), count)


def test_clients_that_were_dropped_do_not_count() -> None:
    rows, weight, blocks = blocks_of(12, 3, 1.0, 0)
    accepted = sum(weight[:9])
    got = Mean().finish(fold([blocks[:3]], sum(weight)), accepted, sum(weight), 9)
    np.testing.assert_allclose(
        got.parts["delta"].numpy(), np.average(rows[:9].double().numpy(), axis=0, weights=weight[:9]), rtol=1e-5
    )


def test_every_part_is_averaged() -> None:
    rows, tau = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0], [6.0]])
    mean = Mean()
    total = mean.zero({"delta": 2, "tau": 1}, "cpu")
    mean.add(total, update(rows, [1.0, 3.0], tau=tau), 4.0)
    got: Aggregate = mean.finish(total, 4.0, 4.0, 2)
    assert got.parts["delta"].tolist() == [2.5, 3.5]
    assert got.parts["tau"].tolist() == [5.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e38, 6 * LIMIT])
@pytest.mark.parametrize("part", ["delta", "control"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_client_out_of_range_is_named_and_nothing_is_folded(bad: float, part: str, rows: int) -> None:
    parts = {"delta": torch.ones(rows, WIDTH), "control": torch.ones(rows, 2)}
    parts[part][rows - 1, 1] = bad
    mean = Mean()
    total = mean.zero({"delta": WIDTH, "control": 2}, "cpu")
    before = {name: tensor.clone() for name, tensor in total.items()}
    with pytest.raises(UpdateOutOfRange, match=part) as raised:
        mean.add(total, update(parts["delta"], [1.0] * rows, control=parts["control"]), 5.0)
    assert raised.value.positions == [rows - 1]
    assert all(torch.equal(total[name], before[name]) for name in total)


@pytest.mark.parametrize("clients", [8, 1000])
def test_a_value_beyond_the_limit_is_refused_however_little_it_weighs(clients: int) -> None:
    # Each contribution alone is below the limit; their sum would leave the range in which float64 adds exactly.
    mean = Mean()
    total = mean.zero({"delta": 1}, "cpu")
    with pytest.raises(UpdateOutOfRange):
        mean.add(total, update(torch.full((2, 1), 3.0 * LIMIT), [1.0, 1.0]), float(clients))
