"""Median and trimmed mean against numpy and scipy, bitwise free of order."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from fedray.aggregators import Aggregator, Median, TrimmedMean, UpdateOutOfRange
from fedray.aggregators.base import Accumulator
from tests.aggregators.test_mean import NOW, update

RULES: list[Aggregator] = [Median(), TrimmedMean(0.0), TrimmedMean(0.1), TrimmedMean(0.25), TrimmedMean(0.49)]
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=repr)


def rows_of(count: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 5)).astype("f4"))


def gather(rule: Aggregator, rows: Tensor, order: list[int], cuts: int) -> Accumulator:
    total = rule.zero({"delta": 5}, "cpu")
    for some in np.array_split(np.array(order), cuts):
        mine = rule.zero({"delta": 5}, "cpu")
        for client in some:
            rule.add(mine, update(rows[[client]], [3.0], [int(client)]), 9.0)
        rule.merge(total, mine)
    return total


def reduced(rule: Aggregator, rows: Tensor) -> Tensor:
    total = gather(rule, rows, list(range(len(rows))), 1)
    return rule.finish(total, 3.0 * len(rows), 9.0, len(rows), NOW).parts["delta"]


@given(st.integers(1, 12), st.integers(0, 2**16))
def test_median_is_numpys(count: int, seed: int) -> None:
    rows = rows_of(count, seed)
    np.testing.assert_allclose(reduced(Median(), rows).numpy(), np.median(rows.double().numpy(), axis=0), rtol=1e-6)


@given(st.integers(1, 24), st.integers(0, 2**16), st.floats(0.0, 0.49))
def test_trimmed_mean_is_scipys(count: int, seed: int, trim: float) -> None:
    rows = rows_of(count, seed)
    expected = stats.trim_mean(rows.double().numpy(), trim, axis=0)
    np.testing.assert_allclose(reduced(TrimmedMean(trim), rows).numpy(), expected, rtol=1e-6, atol=1e-7)


@EVERY_RULE
@given(
    count=st.integers(1, 9), seed=st.integers(0, 2**16), cuts=st.integers(1, 4), order=st.randoms(use_true_random=False)
)
def test_order_and_grouping_do_not_matter(
    rule: Aggregator, count: int, seed: int, cuts: int, order: random.Random
) -> None:
    rows = rows_of(count, seed)
    shuffled = list(range(count))
    order.shuffle(shuffled)
    total = gather(rule, rows, shuffled, cuts)
    assert torch.equal(rule.finish(total, 3.0 * count, 9.0, count, NOW).parts["delta"], reduced(rule, rows))


@EVERY_RULE
def test_weights_do_not_matter_and_rows_may_be_reused(rule: Aggregator) -> None:
    rows = rows_of(6, 1)
    total = rule.zero({"delta": 5}, "cpu")
    scratch = rows[:3].clone()
    rule.add(total, update(scratch, [1.0, 100.0, 7.0]), 500.0)
    scratch.copy_(rows[3:])
    rule.add(total, update(scratch, [1.0, 1.0, 1.0]), 500.0)
    got = rule.finish(total, 111.0, 500.0, 6, NOW)
    assert torch.equal(got.parts["delta"], reduced(rule, rows))
    assert (got.weight, got.count) == (111.0, 6)


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.25)], ids=repr)
def test_a_quarter_of_liars_does_not_move_it_far(rule: Aggregator) -> None:
    rows = rows_of(8, 3)
    honest = rows.clone()
    rows[:2] = 1e30
    assert bool((reduced(rule, rows) <= honest.max(dim=0).values).all())


@EVERY_RULE
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_named_and_nothing_is_gathered(rule: Aggregator, bad: float) -> None:
    rows = rows_of(4, 3)
    rows[1, 2] = rows[3, 0] = bad
    total = rule.zero({"delta": 5}, "cpu")
    with pytest.raises(UpdateOutOfRange, match="delta is not finite") as raised:
        rule.add(total, update(rows, [1.0] * 4), 6.0)
    assert raised.value.positions == [1, 3]
    assert total["delta"].shape == (0, 5)


@pytest.mark.parametrize("trim", [-0.1, 0.5, 1.0, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(trim: float) -> None:
    with pytest.raises(ValueError, match="trim="):
        TrimmedMean(trim)
