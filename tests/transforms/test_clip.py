"""Clipping: no norm exceeds the bound, and what is below it is left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray.transforms import Clip
from tests.aggregators.test_mean import update


def clipped(rows: Tensor, norm: float) -> Tensor:
    block = update(rows.clone(), [1.0] * len(rows))
    Clip(norm).on_clients(block)
    return block.parts["delta"]


@pytest.mark.parametrize("norm", [1e-3, 1.0, 7.3])
@pytest.mark.parametrize("width", [1, 10, 5000])
def test_no_clipped_norm_exceeds_the_bound_in_float64(norm: float, width: int) -> None:
    draw = np.random.default_rng(1)
    rows = torch.from_numpy((draw.standard_normal((200, width)) * 10.0 ** draw.uniform(-6, 6, (200, 1))).astype("f4"))
    before, after = rows.double().norm(dim=1), clipped(rows, norm).double().norm(dim=1)
    assert bool((after <= norm).all())
    small = before <= norm
    assert torch.equal(clipped(rows, norm)[small], rows[small])
    # Clipped means to the bound, in the same direction, not below it.
    assert bool((after[~small] >= norm * (1 - 1e-6)).all())
    factor = (norm / before[~small]).unsqueeze(1)
    torch.testing.assert_close(
        clipped(rows, norm)[~small].double(), rows[~small].double() * factor, rtol=1e-6, atol=0.0
    )


def test_a_zero_update_stays_zero_and_one_that_is_not_finite_stays_so() -> None:
    rows = torch.tensor([[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [3.0, 4.0], [1e38, 1e38]])
    got = clipped(rows, 1.0)
    assert got[0].tolist() == [0.0, 0.0]
    assert not bool(got[1].isfinite().all())
    assert not bool(got[2].isfinite().all())
    torch.testing.assert_close(got[3], torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(got[4], torch.full((2,), math.sqrt(0.5)))
