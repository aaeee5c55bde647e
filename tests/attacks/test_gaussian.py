"""Noise in the place of an update: of the given size, and of nothing that the client found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from fedray.attacks import GaussianAttack


def test_it_is_normal_noise_of_that_size_from_each_attackers_own_draws() -> None:
    draws = [np.random.default_rng(seed) for seed in (1, 2)]
    sent = GaussianAttack(std=3.0).forge(torch.full((2, 5000), 1e9), torch.tensor([0, 1]), draws)
    assert sent.dtype == torch.float32
    assert all(stats.kstest(row.numpy() / 3.0, "norm").pvalue > 0.01 for row in sent)
    again = GaussianAttack(std=3.0).forge(torch.zeros(1, 5000), torch.tensor([0]), [np.random.default_rng(2)])
    assert torch.equal(again[0], sent[1])


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_a_size_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="std="):
        GaussianAttack(std=std)
