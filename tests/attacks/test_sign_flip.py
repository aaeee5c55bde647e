"""An update turned round."""

from __future__ import annotations

import pytest
import torch

from fedray.attacks import SignFlip


@pytest.mark.parametrize("scale", [0.5, 1.0, 10.0])
def test_each_attacker_turns_its_own(scale: float) -> None:
    delta = torch.tensor([[1.0, -2.0], [0.0, 4.0], [3.0, 5.0]])
    sent = SignFlip(scale=scale).forge(delta, torch.tensor([0, 2]), [])
    assert torch.equal(sent, -scale * delta[[0, 2]])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_turns_nothing_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale="):
        SignFlip(scale=scale)
