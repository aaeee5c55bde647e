"""BF16 by its bits: the upper half of a float32, rounded to the nearest, ties to even."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.transforms import BF16
from fedray.transforms.codec import Draws, travelled


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """By the bits: add half of what is cut off, less one where the last bit that stays is even."""
    bits = values.view(np.uint32).astype(np.int64)
    up = bits + 0x7FFF + ((bits >> 16) & 1)
    return (up >> 16 << 16).astype(np.uint32).view(np.float32)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50))
def test_it_is_the_upper_half_of_the_bits(values: list[float]) -> None:
    row = np.array([values], dtype="f4")
    got = travelled([BF16()], torch.from_numpy(row), Draws()).numpy()
    np.testing.assert_array_equal(got, rounded(row))
    normal = np.abs(row) >= 2.0**-126
    assert (np.abs(got - row) <= np.abs(row) / 256)[normal].all()
