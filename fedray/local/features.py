"""The features of a model: the inputs of its head, the last layer with trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def watched(module: nn.Module, head: str) -> Iterator[list[Tensor]]:
    """Collect the inputs of a module's head, of each of its calls in this context."""
    seen: list[Tensor] = []
    handle = module.get_submodule(head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()
