"""Canaries, before the clip and after the noise."""

from __future__ import annotations

import numpy as np
import torch

from fedray.audit.canary import Canary
from fedray.core.messages import BlockUpdate
from fedray.privacy import Privacy
from fedray.privacy.central import Central


def update(parts: dict[str, torch.Tensor]) -> BlockUpdate:
    ones = np.ones(3)
    return BlockUpdate(1, np.array([2, 5, 7]), parts, {}, ones, ones, np.ones(3, dtype=np.int64))


def test_a_canary_passes_the_clip_with_exactly_its_norm_and_all_others_with_nothing() -> None:
    canary = Canary(np.array([5, 7]), norm=0.25, seed=1)
    canary.begin(np.array([1.0, -1.0]))
    sent = update({"delta": torch.ones(3, 10), "control": torch.ones(3, 4), "buffers": torch.ones(3, 2)})
    canary.on_clients(sent)
    clip = Central(Privacy(noise_multiplier=1.0, norm=0.25), groups=((("delta", 0, 10), ("control", 0, 4)),))
    clip.on_clients(sent)
    norms = sent.parts["delta"].double().norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([0.0, 0.25, 0.25]).double(), rtol=2e-5, atol=0.0)
    assert float(norms.max()) <= 0.25
    assert abs(float(sent.parts["delta"][1] @ sent.parts["delta"][2])) < 1e-8
    assert not sent.parts["control"].any()
    assert bool((sent.parts["buffers"] == 1.0).all())


def test_a_canary_that_is_not_in_sends_zeros() -> None:
    canary = Canary(np.array([5]), norm=1.0, seed=1)
    canary.begin(np.array([0.0]))
    sent = update({"delta": torch.ones(3, 10)})
    canary.on_clients(sent)
    assert not sent.parts["delta"].any()
