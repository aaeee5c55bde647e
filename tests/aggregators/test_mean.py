"""The weighted mean: the same bits in every grouping and order, and the number that numpy gives."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedray.aggregators import Mean, UpdateOutOfRange
from fedray.aggregators.base import Accumulator
from fedray.aggregators.exact import GRID, LIMIT, UNIT, WIDE_LIMIT
from fedray.core.messages import BUFFERS, Aggregate, BlockUpdate
from fedray.core.now import Now

WIDTH = 7
NOW = Now(seed=3, round=2)


def update(rows: Tensor, weight: list[float], clients: Sequence[int] = (), **parts: Tensor) -> BlockUpdate:
    """A block's updates, with only what an aggregator looks at filled in."""
    count = len(rows)
    return BlockUpdate(
        round=1,
        clients=np.array(clients or range(count), dtype=np.int64),
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
    got = Mean().finish(fold([blocks], sum(weight)), sum(weight), sum(weight), count, NOW)
    expected = np.average(rows.double().numpy(), axis=0, weights=weight)
    largest = float(rows.abs().max())
    np.testing.assert_allclose(got.parts["delta"].numpy(), expected, rtol=1e-6, atol=1e-6 * largest)
    assert got.parts["delta"].dtype == torch.float32
    assert (got.weight, got.count) == (sum(weight), count)


def test_clients_that_were_dropped_do_not_count() -> None:
    rows, weight, blocks = blocks_of(12, 3, 1.0, 0)
    accepted = sum(weight[:9])
    got = Mean().finish(fold([blocks[:3]], sum(weight)), accepted, sum(weight), 9, NOW)
    np.testing.assert_allclose(
        got.parts["delta"].numpy(), np.average(rows[:9].double().numpy(), axis=0, weights=weight[:9]), rtol=1e-5
    )


def test_every_part_is_averaged() -> None:
    rows, tau = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0], [6.0]])
    mean = Mean()
    total = mean.zero({"delta": 2, "tau": 1}, "cpu")
    mean.add(total, update(rows, [1.0, 3.0], tau=tau), 4.0)
    got: Aggregate = mean.finish(total, 4.0, 4.0, 2, NOW)
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


def test_an_update_beside_its_start_is_folded_as_its_difference() -> None:
    rows, _, _ = blocks_of(2, 1, scale=3.0, seed=1)
    mean, widths = Mean(), {"delta": WIDTH, "control": 2}
    found, expected = mean.zero(widths, "cpu"), mean.zero(widths, "cpu")
    mean.add(found, replace(update(rows[:1], [3.0], control=torch.ones(1, 2)), start=rows[1]), 7.0)
    mean.add(expected, update(rows[:1] - rows[1], [3.0], control=torch.ones(1, 2)), 7.0)
    assert all(torch.equal(found[name], expected[name]) for name in widths)
    for part, bad in (("delta", rows[0] * math.nan), ("control", torch.full((2,), LIMIT))):
        parts = {"delta": rows[:1], "control": torch.ones(1, 2), part: bad.unsqueeze(0)}
        lost = replace(update(parts["delta"], [3.0], control=parts["control"]), start=rows[1])
        with pytest.raises(UpdateOutOfRange, match=part) as raised:
            mean.add(found, lost, 7.0)
        assert raised.value.positions == [0]
        assert all(torch.equal(found[name], expected[name]) for name in widths)


def test_a_mean_of_nothing_is_nothing() -> None:
    """Of clients that keep all of their model to themselves."""
    mean = Mean()
    total = mean.zero({"delta": 0}, "cpu")
    mean.add(total, update(torch.zeros(2, 0), [1.0, 2.0]), 3.0)
    assert mean.finish(total, 3.0, 3.0, 2, NOW).parts["delta"].shape == (0,)


def test_only_its_own_way_of_adding_subtracts() -> None:
    class Looking(Mean):
        def add(self, into: Accumulator, update: BlockUpdate, weight: float) -> None:
            super().add(into, update, weight)

    assert Mean().subtracts
    assert not Looking().subtracts


@pytest.mark.parametrize("clients", [8, 1000])
def test_a_value_beyond_the_limit_is_refused_however_little_it_weighs(clients: int) -> None:
    # Each contribution alone is below the limit; their sum would leave the range in which float64 adds exactly.
    mean = Mean()
    total = mean.zero({"delta": 1}, "cpu")
    with pytest.raises(UpdateOutOfRange):
        mean.add(total, update(torch.full((2, 1), 3.0 * LIMIT), [1.0, 1.0]), float(clients))


# Buffers


def fold_buffers(blocks: list[BlockUpdate], planned: float) -> Aggregate:
    """Two workers, turn by turn."""
    mean = Mean()
    one, other = (mean.zero(mean.widths({"delta": WIDTH, BUFFERS: WIDTH}), "cpu") for _ in range(2))
    for number, block in enumerate(blocks):
        mean.add(other if number % 2 else one, block, planned)
    mean.merge(one, other)
    weight = float(sum(block.weight.sum() for block in blocks))
    return mean.finish(one, weight, planned, len(blocks), NOW)


@given(st.integers(1, 30), st.sampled_from([1e-3, 1.0, 1e4]), st.integers(0, 2**16))
def test_buffers_in_the_range_of_parameters_have_their_bits(count: int, scale: float, seed: int) -> None:
    rows, weight, _ = blocks_of(count, 1, scale, seed)
    blocks = [update(row[None], [w], buffers=row[None]) for row, w in zip(rows, weight, strict=True)]
    got = fold_buffers(blocks, sum(weight))
    assert torch.equal(got.parts[BUFFERS], got.parts["delta"])
    assert sorted(got.parts) == [BUFFERS, "delta"]


@given(st.integers(1, 30), st.integers(0, 2**16), st.randoms(use_true_random=False))
def test_statistics_of_raw_inputs_are_averaged_exactly_in_every_order(
    count: int, seed: int, order: random.Random
) -> None:
    draw = np.random.default_rng(seed)
    powers = draw.integers(-6, 17, (count, WIDTH)).astype("f8")
    rows = torch.from_numpy((draw.standard_normal((count, WIDTH)) * 10.0**powers).astype("f4"))
    weight = draw.integers(1, 200, count).astype("f8").tolist()
    small = torch.zeros(1, WIDTH)
    blocks = [update(small, [w], buffers=row[None]) for row, w in zip(rows, weight, strict=True)]
    got = fold_buffers(blocks, sum(weight))
    order.shuffle(blocks)
    assert torch.equal(fold_buffers(blocks, sum(weight)).parts[BUFFERS], got.parts[BUFFERS])
    exact = np.average(rows.double().numpy(), axis=0, weights=weight)
    np.testing.assert_allclose(
        got.parts[BUFFERS].numpy(), exact, rtol=1e-6, atol=1e-6 * float(rows.abs().amax()) / 2**16 + 1e-9
    )


def test_parameters_beside_buffers_have_the_bits_of_the_whole_matrix() -> None:
    """As before buffers were a part of their own: a product's bits depend on how wide the matrix is."""
    draw = torch.Generator().manual_seed(0)
    for width, rest in ((700, 33), (4810, 3), (64, 64)):
        whole = torch.randn(5, width + rest, generator=draw)
        weights = [3.0, 1.0, 4.0, 1.0, 5.0]
        apart, mean = update(whole[:, :width], weights, buffers=whole[:, width:]), Mean()
        total = mean.zero(mean.widths({"delta": width, BUFFERS: rest}), "cpu")
        mean.add(total, apart, 14.0)
        expected = mean.zero({"delta": width + rest}, "cpu")
        mean.add(expected, update(whole, weights), 14.0)
        assert torch.equal(torch.cat([total["delta"], total[BUFFERS]]), expected["delta"])
        copied, again = update(whole[:, :width].clone(), weights, buffers=whole[:, width:].clone()), Mean()
        loose = again.zero(again.widths({"delta": width, BUFFERS: rest}), "cpu")
        again.add(loose, copied, 14.0)
        torch.testing.assert_close(loose["delta"], expected["delta"][:width], rtol=1e-4, atol=1e5)


@pytest.mark.parametrize("bad", [float("nan"), -float("inf"), 4 * WIDE_LIMIT])
def test_a_client_whose_buffers_are_lost_is_named(bad: float) -> None:
    buffers = torch.full((3, WIDTH), 10.0 * LIMIT)
    buffers[1, 2] = bad
    with pytest.raises(UpdateOutOfRange, match=r"^buffers is not finite, or beyond") as raised:
        fold_buffers([update(torch.zeros(3, WIDTH), [1.0] * 3, buffers=buffers)], 3.0)
    assert (raised.value.positions, raised.value.part) == ([1], BUFFERS)


def test_very_many_clients_do_not_leave_the_range_where_sums_are_exact() -> None:
    mean, count = Mean(), 4_000
    total = mean.zero(mean.widths({"delta": 1, BUFFERS: 2}), "cpu")
    row = torch.tensor([[127.0 + 2.0**-16, 1e9]])
    for _ in range(count):
        mean.add(total, update(torch.zeros(1, 1), [1.0], buffers=row), float(count))
    assert float(total[BUFFERS].abs().max()) <= UNIT / GRID
    got = mean.finish(total, float(count), float(count), count, NOW)
    assert torch.equal(got.parts[BUFFERS], row[0])


def slotted(slots: int, buffers: bool, draw: np.random.Generator) -> tuple[list[BlockUpdate], list[BlockUpdate]]:
    """The same blocks of 4, 1 and 3 clients, without slots, and with slots drawn for each client."""
    plain, placed = [], []
    for count in (4, 1, 3):
        rows = torch.from_numpy(draw.standard_normal((count, 40)).astype("f4"))
        weight = draw.integers(1, 99, count).astype("f8").tolist()
        parts = {BUFFERS: rows[:, 33:]} if buffers else {}
        tau = torch.from_numpy(draw.standard_normal((count, 1)).astype("f4"))
        slot = torch.from_numpy(draw.integers(0, slots, count))
        plain.append(update(rows[:, :33], weight, (), tau=tau, **parts))
        placed.append(update(rows[:, :33], weight, (), tau=tau, **parts))
        placed[-1].slots = {"delta": slot, "tau": slot}
    return plain, placed


def finished(blocks: list[BlockUpdate], slots: int) -> Aggregate:
    sent = {name: rows.shape[1] * (slots or 1) for name, rows in blocks[0].parts.items() if name != BUFFERS}
    sent |= {BUFFERS: 7} if BUFFERS in blocks[0].parts else {}
    sent |= {"delta.share": slots, "tau.share": slots} if slots else {}
    weight = float(sum(block.weight.sum() for block in blocks))
    total = Mean().zero(Mean().widths(sent), "cpu")
    for block in blocks:
        Mean().add(total, block, 3 * weight)
    return Mean().finish(total, weight, 3 * weight, 8, NOW)


@pytest.mark.parametrize("buffers", [False, True])
def test_a_slot_that_holds_everybody_is_the_plain_mean_bitwise(buffers: bool) -> None:
    plain, placed = slotted(1, buffers, np.random.default_rng(5))
    for block in placed:
        block.slots = {name: slot + 1 for name, slot in block.slots.items()}  # of three, two are empty
    one, other = finished(plain, 0), finished(placed, 3)
    for name in ("delta", "tau"):
        assert torch.equal(other[name][1], one[name])
        assert not other[name][[0, 2]].any()
        assert other.shares[name].tolist() == [0.0, 1.0, 0.0]
    if buffers:
        assert torch.equal(one[BUFFERS], other[BUFFERS])


def test_means_within_slots_are_numpys() -> None:
    _, blocks = slotted(3, True, np.random.default_rng(2))
    found = finished(blocks, 3)
    slot = np.concatenate([block.slots["delta"].numpy() for block in blocks])
    weight = np.concatenate([block.weight for block in blocks])
    rows = torch.cat([block.parts["delta"] for block in blocks]).double().numpy()
    for place in range(3):
        assert (slot == place).any()
        mean = np.average(rows[slot == place], axis=0, weights=weight[slot == place])
        np.testing.assert_allclose(found["delta"][place].numpy(), mean, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(found.shares["delta"].numpy(), np.bincount(slot, weight, 3) / weight.sum(), rtol=1e-6)
