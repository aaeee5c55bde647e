"""The Gaussian mechanism: its scale, its name, and what it needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fedray.core.messages import Aggregate
from fedray.core.noise import Noise
from fedray.core.now import Now
from fedray.transforms import Clip, Gaussian, Setting, TopK


def aggregate(width: int, count: int) -> Aggregate:
    return Aggregate({"delta": torch.zeros(width), "control": torch.zeros(width)}, float(count), count)


def noise(seed: int = 1, round: int = 1, *, multiplier: float = 2.0, count: int = 4, width: int = 20_000) -> Tensor:
    total = aggregate(width, count)
    calibrated = Gaussian(multiplier, noise="seeded").prepare(Setting(before=(Clip(5.0), Clip(0.5))))
    calibrated.on_aggregate(total, Now(seed, round))
    assert not total.parts["control"].any()
    return total.parts["delta"]


def test_the_noise_has_the_standard_deviation_it_says() -> None:
    # multiplier * S / count, with S of the clip that came last.
    std = 2.0 * 0.5 / 4
    assert stats.kstest(noise().double().numpy() / std, "norm").pvalue > 1e-3
    assert stats.kstest(noise(count=8).double().numpy() / (std / 2), "norm").pvalue > 1e-3


def test_the_noise_is_named_by_seed_and_round() -> None:
    assert torch.equal(noise(), noise())
    for other in (noise(seed=2), noise(round=2)):
        assert abs(np.corrcoef(noise().numpy(), other.numpy())[0, 1]) < 0.03
    assert not noise(multiplier=0.0).any()


def test_secure_noise_is_that_of_the_key_and_the_seed_has_no_part_in_it() -> None:
    calibrated = Gaussian(2.0).prepare(Setting(before=(Clip(0.5),)))

    def drawn(seed: int, key: int) -> Tensor:
        total = aggregate(20_000, 4)
        calibrated.on_aggregate(total, Now(seed, 1, noise=Noise(bytes([key] * 32))))
        return total.parts["delta"]

    assert torch.equal(drawn(1, 7), drawn(2, 7))
    assert abs(np.corrcoef(drawn(1, 7).numpy(), drawn(1, 8).numpy())[0, 1]) < 0.03
    assert stats.kstest(drawn(1, 7).double().numpy() / 0.25, "norm").pvalue > 1e-3
    with pytest.raises(RuntimeError, match="secure noise needs a key"):
        calibrated.on_aggregate(aggregate(3, 4), Now(1, 1))


def test_noise_needs_a_clip_before_it() -> None:
    with pytest.raises(ValueError, match="gaussian needs a clip before it"):
        Gaussian(1.0).prepare(Setting())
    with pytest.raises(ValueError, match="gaussian needs a clip before it"):
        Gaussian(1.0).prepare(Setting(before=(TopK(0.5),)))
