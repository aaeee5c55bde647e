"""The output of a model, as a tensor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.tasks import logits_of


def test_a_tensor_is_it_and_else_its_logits() -> None:
    one = torch.ones(2)
    assert logits_of(one) is logits_of({"logits": one}) is logits_of(SimpleNamespace(logits=one))


@pytest.mark.parametrize("output", [(torch.ones(1),), {"loss": torch.ones(1)}, None])
def test_anything_else_is_named(output: object) -> None:
    with pytest.raises(ConfigError, match=f"it gives {type(output).__name__}; a tensor is needed"):
        logits_of(output)
