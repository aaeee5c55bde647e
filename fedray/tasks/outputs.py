"""The output of a model, as a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.data.columns.inputs import Inputs, call


def outputs_of(module: nn.Module, x: Inputs) -> Tensor:
    """Return the tensor that a model gives for inputs, see :func:`logits_of`.

    Raises:
        ConfigError: it gives none.
    """
    return logits_of(call(module, x))


def logits_of(output: Any) -> Tensor:
    """Return the tensor that a model gives: its output, or ``logits`` of it, as Hugging Face models have it.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> logits_of(SimpleNamespace(logits=torch.ones(1))), logits_of(torch.zeros(1))
    (tensor([1.]), tensor([0.]))

    Raises:
        ConfigError: it has none.
    """
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        kind = type(output).__name__
        raise ConfigError(f"model: it gives {kind}; a tensor is needed, or an object with a tensor .logits")
    return found
