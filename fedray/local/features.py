"""The features of a model: the inputs of its head, the last layer with trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def head_of(module: nn.Module) -> str:
    """Return the name of the last part of a module that has trained parameters itself.

    >>> head_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1)))
    '2'
    """
    head = ""
    for name, part in module.named_modules():
        if any(parameter.requires_grad for parameter in part.parameters(recurse=False)):
            head = name
    return head


@contextmanager
def watched(module: nn.Module, head: str) -> Iterator[list[Tensor]]:
    """Collect the inputs of a module's head, of each of its calls in this context."""
    seen: list[Tensor] = []
    handle = module.get_submodule(head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()
