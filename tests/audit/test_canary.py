"""Canaries, before the clip and after the noise."""

from __future__ import annotations

import numpy as np
import torch

from fedray.audit.canary import Canary, OwnCanary
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
    torch.testing.assert_close(norms, torch.tensor([0.0, 0.25, 0.25]).double(), rtol=1e-3, atol=0.0)
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


def test_a_canary_passes_a_clip_by_layers_with_the_norm_of_each() -> None:
    layers = np.arange(6), np.arange(6, 10)
    canary = Canary(np.array([2, 5, 7]), norm=0.25, seed=1, groups=layers)
    canary.begin(np.ones(3))
    sent = update({"delta": torch.ones(3, 10)})
    canary.on_clients(sent)
    groups = tuple((("delta", int(one[0]), int(one[-1]) + 1),) for one in layers)
    clip = Central(Privacy(noise_multiplier=1.0, norm=0.25, per_layer=True), groups=groups)
    clip.on_clients(sent)
    gram = (found := sent.parts["delta"].double()) @ found.T
    torch.testing.assert_close(gram, torch.eye(3).double() * 0.25**2, rtol=2e-3, atol=1e-8)
    assert float(gram.diagonal().max()) <= 0.25**2


def test_an_own_canary_is_seen_as_it_was_sent_whichever_it_is() -> None:
    canary = OwnCanary(np.array([5, 7]), norm=0.25)
    canary.begin(np.array([1.0, -1.0]))
    sent = update({"delta": torch.ones(3, 10)})
    canary.on_clients(sent)
    assert sent.parts["delta"][:, 0].tolist() == [0.0, 2.0**18, -(2.0**18)]
    assert not sent.parts["delta"][:, 1:].any()
    canary.on_arrival(sent, 1)
    assert canary.seen == {(1, 0): 2.0**18, (1, 1): -(2.0**18)}
