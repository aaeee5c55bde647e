"""What is counted decides on lanes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedray.local.lane_choice import (
    LARGEST,
    LARGEST_TRAINED,
    OWN_BYTES,
    lanes_size,
    mostly_frozen,
    number_of,
    unworthy,
)
from fedray.local.operations import Products, products


def adapter(width: int) -> Products:
    """A frozen layer and an adapter of rank 2 behind it."""
    layers = nn.Sequential(nn.Linear(width, width).requires_grad_(False), nn.Linear(width, 2), nn.Linear(2, width))
    return products(layers, torch.zeros(2, 8, width))  # eight places an example


def test_adapters_of_a_small_base_pay_and_of_a_large_one_with_few_rows() -> None:
    small, large = adapter(16), adapter(4096)
    assert mostly_frozen(small)
    assert mostly_frozen(large)
    assert unworthy(small, 1000, 64) is None  # eight thousand rows of few numbers
    assert unworthy(large, 8, 16_384) is None
    assert unworthy(large, 32, 16_384) == "a step multiplies each weight 256 times: above 160 lanes do not pay on a cpu"


def test_what_trains_must_be_small() -> None:
    reason = unworthy(adapter(16), 1, LARGEST_TRAINED + 1)
    assert reason == "1,048,577 parameters train: above 1,048,576 lanes do not pay on a cpu"


@pytest.mark.parametrize("cohort", [3.0, 9.0, 1000.0])
@pytest.mark.parametrize("trained", [100, 1_000_000, 40_000_000])
def test_blocks_leave_half_of_the_cohort_and_fit(cohort: float, trained: int) -> None:
    for counted in (adapter(16), adapter(1024), Products(trained=1e5, weights=1000)):
        size = lanes_size(counted, 4, trained, cohort)
        assert 1 <= size <= min(LARGEST, -(-cohort // 2))
        assert size == 1 or 4 * trained * size <= OWN_BYTES


def test_a_number_is_an_order() -> None:
    assert (number_of("lanes:12"), number_of("lanes")) == (12, None)
