"""The sum in a ring: a commutative monoid, bitwise, whatever overflows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedray.aggregators.ring import RingSum
from fedray.core.messages import BlockUpdate, Parts
from fedray.core.now import Now
from fedray.transforms import SecureSum
from fedray.transforms.base import Transform


class Halved(Transform):
    """Opens a sum as half of it."""

    in_ring = True

    def opened(self, sums: Parts, now: Now) -> Parts:
        return {name: part.double().div(2).float() for name, part in sums.items()}


def block(rows: Tensor) -> BlockUpdate:
    one = np.ones(len(rows))
    return BlockUpdate(1, np.arange(len(rows)), {"delta": rows}, {}, one, one, one.astype(np.int64))


@given(
    rows=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8), cut=st.integers(0, 8), back=st.booleans()
)
def test_any_grouping_gives_the_sum_modulo_2_64(rows: list[int], cut: int, back: bool) -> None:
    ring = RingSum(Halved())
    near, far = (ring.zero({"delta": 1}, "cpu") for _ in range(2))
    for into, some in ((near, rows[:cut]), (far, rows[cut:])):
        if some:
            ring.add(into, block(torch.tensor(some)[:, None]), 1.0)
    one, other = (far, near) if back else (near, far)
    ring.merge(one, other)
    assert (int(one["delta"]) - sum(rows)) % 2**64 == 0


def test_the_transform_opens_the_sum_and_says_how_few_will_do() -> None:
    ring = RingSum(Halved())
    total = ring.zero({"delta": 2}, "cpu")
    ring.add(total, block(torch.tensor([[2, 4], [4, -8]])), 2.0)
    found = ring.finish(total, 2.0, 2.0, 2, Now(1, 1))
    assert found.parts["delta"].tolist() == [3.0, -2.0]
    assert ring.least_of(10) == ring.least == 2
    assert RingSum(SecureSum(0.7)).least_of(10) == 7
    assert RingSum(SecureSum(0.7)).words == "transforms: secure_sum"
    assert ring.dtype == total["delta"].dtype == torch.int64


def test_what_is_no_whole_number_is_not_folded() -> None:
    ring = RingSum(Halved())
    with pytest.raises(TypeError, match="only whole numbers"):
        ring.add(ring.zero({"delta": 1}, "cpu"), block(torch.ones(1, 1)), 1.0)


def test_only_transforms_in_a_ring_open_sums() -> None:
    with pytest.raises(TypeError, match="Transform is no transform whose updates are summed in a ring"):
        Transform().opened({}, Now(1, 1))
