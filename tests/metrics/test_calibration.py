"""The calibration error, against its definition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from fedray.metrics import CalibrationError


@pytest.mark.parametrize(("classes", "bins"), [(2, 10), (5, 15), (3, 1)])
def test_it_is_the_mean_gap_of_the_bins(classes: int, bins: int) -> None:
    draw = torch.Generator().manual_seed(5)
    output, y = 2 * torch.randn(400, classes, generator=draw), torch.randint(0, classes, (400,), generator=draw)
    sure, said = (one.numpy() for one in output.softmax(dim=1).max(dim=1))
    right, edges = said == y.numpy(), np.linspace(0, 1, bins + 1)
    expected = 0.0
    for low, high in pairwise(edges):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            expected += abs(right[inside].mean() - sure[inside].mean()) * inside.mean()
    assert CalibrationError(bins).on(output, y) == pytest.approx(expected, abs=1e-6)


def test_who_is_as_sure_as_right_has_none() -> None:
    output = torch.tensor([[0.0, np.log(3.0)]] * 4)
    assert CalibrationError().on(output, torch.tensor([1, 1, 1, 0])) == pytest.approx(0.0, abs=1e-6)
