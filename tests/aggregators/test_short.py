"""Short sums: 32 bits hold what float64 does, and each piece gives way to it in time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedray.aggregators import Mean, UpdateOutOfRange
from fedray.aggregators.exact import GRID, LIMIT, add_change, add_rounded, values
from fedray.aggregators.short import SHORT_LIMIT, SHORT_ROOM, ShortSum, pays
from fedray.core.messages import BlockUpdate
from fedray.core.now import Now

PIECE, SIZE = 50_000, 140_000
SEEDS = st.integers(0, 2**16)
NOW = Now(seed=1, round=1)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedray.aggregators.short.PIECE", PIECE)
        yield


def normal(seed: int, scale: float, length: int = SIZE) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)) * scale


def update(delta: Tensor, weight: float = 1.0, start: Tensor | None = None) -> BlockUpdate:
    one = np.ones(1)
    return BlockUpdate(1, one.astype(int), {"delta": delta[None]}, {}, weight * one, one, one.astype(int), start=start)


def in_float64(blocks: list[BlockUpdate], planned: float) -> Tensor:
    total = torch.zeros(SIZE, dtype=torch.float64)
    for block in blocks:
        delta = block.parts["delta"][0]
        add_rounded(total, delta if block.start is None else delta - block.start, float(block.weight[0]) / planned)
    return total


def filled(total: dict[str, Tensor]) -> Tensor:
    return Mean().filled(dict(total))["delta"]


@given(st.integers(1, SIZE), st.floats(1e-3, 1.0), SEEDS)
@settings(max_examples=15, deadline=None)
def test_a_short_sum_has_the_numbers_of_a_wide_one_and_so_do_its_means(length: int, scale: float, seed: int) -> None:
    end, start = normal(seed, 1e-3, length), normal(seed + 1, 1e-3, length)
    memory, wide = torch.zeros(length, dtype=torch.float64), torch.zeros(length, dtype=torch.float64)
    short = ShortSum.of(memory)
    add_rounded(wide, end, scale)
    assert add_change(wide, end, start, scale)
    short.add(end, scale, 1.0)
    assert short.add_change(end, start, scale)
    assert not short.wide.any()
    for number, place in short.places():
        assert torch.equal(short.piece(number).double(), wide[place])
        untouched = memory[place].view(torch.int32)[len(memory[place]) :]
        assert not untouched.any(), "the second half of its memory"
    expected, got = values(wide, 0.7), short.values(0.7)
    assert torch.equal(got.view(torch.int32), expected.view(torch.int32))
    assert got.data_ptr() == memory.data_ptr()


@given(
    st.lists(st.tuples(st.sampled_from([1e-5, 1e-3, 1.0, 1e4]), st.floats(0.1, 100.0)), min_size=1, max_size=6),
    st.booleans(),
    SEEDS,
)
@settings(max_examples=25, deadline=None)
def test_a_mean_does_not_show_which_pieces_are_wide_nor_since_when(
    clients: list[tuple[float, float]], beside: bool, seed: int
) -> None:
    """Two workers; each client has a piece of its own where its update is larger than elsewhere."""
    mean, planned, blocks = Mean(), sum(weight for _, weight in clients), list[BlockUpdate]()
    start = normal(seed, 1.0)
    for number, (scale, weight) in enumerate(clients):
        delta = normal(seed + number, 1e-4)
        delta[PIECE * (number % 3) : PIECE * (number % 3 + 1)] *= scale / 1e-4
        blocks.append(update(start + delta, weight, start) if beside else update(delta, weight))
    workers = [mean.zero({"delta": SIZE}, "cpu") for _ in range(2)]
    for number, block in enumerate(blocks):
        mean.add(workers[number % 2], block, planned)
    total, other = workers
    mean.merge(total, other)
    large = {number % 3 for number, (scale, _) in enumerate(clients) if scale >= 1.0}
    assert total["delta.wide"].tolist() == [number in large for number in range(3)]
    expected = in_float64(blocks, planned)
    assert torch.equal(filled({name: part.clone() for name, part in total.items()}), expected)
    got = mean.finish(total, planned, planned, len(blocks), NOW).parts
    assert list(got) == ["delta"]
    assert torch.equal(got["delta"].view(torch.int32), values(expected, 1.0).view(torch.int32))


@pytest.mark.parametrize("value", [SHORT_LIMIT, -SHORT_LIMIT])
@pytest.mark.parametrize("place", [0, PIECE, SIZE - 1])
def test_the_first_value_that_does_not_fit_makes_its_piece_wide(value: float, place: int) -> None:
    mean, zeros = Mean(), torch.zeros(SIZE)
    below, beyond = zeros.clone(), zeros.clone()
    below[place], beyond[place] = float(np.nextafter(np.float32(value), np.float32(0.0))), value
    for start in (None, zeros):
        total = mean.zero({"delta": SIZE}, "cpu")
        mean.add(total, update(below, 0.5, start), 1.0)
        assert not total["delta.wide"].any()
        mean.add(total, update(beyond, 0.5, start), 1.0)
        assert total["delta.wide"].nonzero().tolist() == [[place // PIECE]]
        assert torch.equal(filled(total), in_float64([update(below, 0.5), update(beyond, 0.5)], 1.0))


def test_weights_that_a_program_gives_itself_do_not_overflow_a_short_sum() -> None:
    mean, block = Mean(), update(torch.full((SIZE,), 0.9 * SHORT_LIMIT), 0.5 * SHORT_ROOM)
    one, other = (mean.zero({"delta": SIZE}, "cpu") for _ in range(2))
    for _ in range(10):
        mean.add(one, block, 1.0)
    mean.add(other, block, 1.0)
    assert one["delta.wide"].all()
    assert not other["delta.wide"].any()
    mean.merge(other, one)
    assert torch.equal(filled(other), in_float64([block] * 11, 1.0))


def test_two_short_sums_that_have_no_room_for_each_other_become_a_wide_one() -> None:
    mean, block = Mean(), update(torch.full((SIZE,), -0.99 * SHORT_LIMIT), SHORT_ROOM)
    one, other = (mean.zero({"delta": SIZE}, "cpu") for _ in range(2))
    for total in (one, other):
        mean.add(total, block, 1.0)
        assert not total["delta.wide"].any()
    mean.merge(one, other)
    assert one["delta.wide"].all()
    assert torch.equal(filled(one), in_float64([block] * 2, 1.0))


def test_a_sum_from_another_node_is_added_to_a_short_one_and_a_short_one_to_it() -> None:
    mean, near, far = Mean(), update(normal(1, 1e-3)), update(normal(2, 1e-3))
    for order in (0, 1):
        here, there = mean.zero({"delta": SIZE}, "cpu"), {"delta": in_float64([far], 2.0)}
        mean.add(here, near, 2.0)
        into, other = (here, there) if order else (there, here)
        mean.merge(into, other)
        assert torch.equal(filled(into), in_float64([near, far], 2.0))


@pytest.mark.parametrize("place", [10, PIECE + 40_000, SIZE - 1])
def test_of_an_update_out_of_range_nothing_is_added(place: int) -> None:
    mean, zeros = Mean(), torch.zeros(SIZE)
    first, bad = update(normal(3, 1e-3), 0.5, zeros), normal(4, 1e-3)
    bad[5], bad[place] = 1.0, LIMIT
    for start in (None, zeros):
        total = mean.zero({"delta": SIZE}, "cpu")
        mean.add(total, first, 1.0)
        with pytest.raises(UpdateOutOfRange):
            mean.add(total, update(bad, 0.5, start), 1.0)
        assert torch.equal(filled(total), in_float64([first], 1.0))


def test_a_sum_is_found_again_in_its_memory_and_cleared_whatever_that_holds() -> None:
    mean, memory = Mean(), {"delta": torch.full((SIZE,), 7.0, dtype=torch.float64)}
    blocks = [update(normal(5, 1e-3), 0.5), update(normal(6, 5.0), 0.5)]
    for first in (0, 1):
        total = mean.clear(memory)
        for block in blocks[first:]:
            mean.add(total, block, 1.0)
        again = mean.formed(memory, mean.form(total))
        assert torch.equal(filled(again), in_float64(blocks[first:], 1.0))
    assert not mean.clear(memory)["delta.wide"].any()
    assert list(memory) == ["delta"]


def test_what_is_small_in_slots_or_of_any_magnitude_is_never_short() -> None:
    widths = Mean().widths({"delta": SIZE, "delta.share": 2, "control": SIZE, "few": 3, "buffers": SIZE})
    total = Mean().zero(widths, "cpu")
    assert [name for name in total if name.endswith(".wide")] == ["control.wide"]
    assert not pays(torch.zeros(PIECE - 1))
    assert not pays(torch.zeros(PIECE, device="meta"))


def test_a_sum_that_another_class_adds_up_is_not_short() -> None:
    class Doubled(Mean):
        def add(self, into: dict[str, Tensor], update: BlockUpdate, weight: float) -> None:
            into["delta"] += 2.0 * update.parts["delta"][0]

    assert list(Doubled().zero({"delta": SIZE}, "cpu")) == ["delta"]
    assert GRID * 2**30 == SHORT_LIMIT
