"""Sums on a fixed grid: what rounding costs, and that neither pieces nor order show."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.aggregators.exact import GRID, LIMIT, add_change, add_rounded, in_range, values


@given(st.floats(-6e4, 6e4, width=32))
def test_rounding_moves_a_value_by_at_most_half_a_grid_spacing(value: float) -> None:
    total = torch.zeros(1, dtype=torch.float64)
    add_rounded(total, torch.tensor([value]))
    assert float(total) == round(float(total))
    assert abs(float(total) * GRID - value) <= GRID / 2


def test_long_vectors_are_summed_as_short_ones() -> None:
    draw = torch.Generator().manual_seed(2)
    length = (1 << 16) + 3
    row = torch.randn(length, generator=draw)
    total = torch.zeros(length, dtype=torch.float64)
    add_rounded(total, row)
    pieces = torch.zeros(length, dtype=torch.float64)
    for a, b in zip(pieces.split(1000), row.split(1000), strict=True):
        add_rounded(a, b)
    assert torch.equal(total, pieces)
    scaled, both = torch.zeros_like(total), torch.zeros_like(total)
    add_rounded(scaled, row, 0.3)
    add_rounded(both, row.double() * 0.3)
    assert torch.equal(scaled, both)


@given(st.integers(1, 5 << 20), st.floats(0.01, 1.0), st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_values_are_narrowed_in_the_memory_of_the_sum(length: int, share: float, seed: int) -> None:
    total = torch.randn(length, generator=torch.Generator().manual_seed(seed)).double().div(GRID).round()
    expected = (total * GRID / share).float()
    place = total.data_ptr()
    got = values(total, share)
    assert torch.equal(got, expected)
    assert got.data_ptr() == place


@given(st.lists(st.floats(-6e4, 6e4, width=32), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_bits(numbers: list[float], order: random.Random) -> None:
    def total(addends: list[float]) -> torch.Tensor:
        total = torch.zeros(1, dtype=torch.float64)
        for addend in addends:
            add_rounded(total, torch.tensor([addend]), 1.0 / len(addends))
        return total

    shuffled = list(numbers)
    order.shuffle(shuffled)
    assert torch.equal(total(shuffled), total(numbers))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), LIMIT, -LIMIT])
def test_what_cannot_be_summed_exactly_is_out_of_range(bad: float) -> None:
    assert in_range(torch.tensor([1.0, -1.0]), LIMIT)
    assert in_range(torch.zeros(0), LIMIT)
    assert not in_range(torch.tensor([1.0, bad, -1.0]), LIMIT)
    below = torch.full((100,), torch.nextafter(torch.tensor(LIMIT), torch.tensor(0.0)).item())
    assert in_range(below, LIMIT)
    assert not in_range(below, float(below[0]))


@given(st.integers(1, 70_000), st.floats(1e-3, 1.0), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_change_is_added_as_if_it_had_been_written_down(length: int, scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    start = torch.randn(length, generator=draw)
    end = start + torch.randn(length, generator=draw) * 10.0 ** torch.randint(-9, 4, (length,), generator=draw)
    total = torch.randn(length, generator=draw).double().div(GRID).round()
    expected, kept = total.clone(), (end.clone(), start.clone())
    add_rounded(expected, end - start, scale)
    assert add_change(total, end, start, scale)
    assert torch.equal(total, expected)
    assert torch.equal(end, kept[0])
    assert torch.equal(start, kept[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), LIMIT])
@pytest.mark.parametrize("place", [0, 40_000, 69_999])
def test_of_a_change_that_is_out_of_range_nothing_is_added(bad: float, place: int) -> None:
    draw = torch.Generator().manual_seed(4)
    start, end, total = (torch.randn(70_000, generator=draw) for _ in range(3))
    total = total.double().div(GRID).round()
    total[:100] = 0.0  # and not minus 0
    before = total.clone()
    start[place], end[place] = 0.0, bad
    assert not add_change(total, end, start, 0.3)
    assert torch.equal(total.view(torch.int64), before.view(torch.int64))
