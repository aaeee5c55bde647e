"""Tensors that are to be left as they are, and whether they were."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

Versions = Mapping[str, tuple[Tensor, int]]
"""Tensors by name, each with the number that torch raises whenever it is changed in place."""

FROZEN = "a checkpoint is written beside it, and would hold now the one, now the other: change it in {}"
"""The reason why a broadcast may change nothing, and the place that may."""


def versions(tensors: Mapping[str, Tensor]) -> Versions:
    """Return the versions of tensors, by which changes are told later without a copy of them."""
    return {name: (tensor, tensor._version) for name, tensor in tensors.items()}


def changed(before: Versions, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that were changed or replaced, came, or went.

    >>> import torch
    >>> kept = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2)}
    >>> before = versions(kept)
    >>> kept["a"] += 1.0
    >>> kept["c"] = torch.zeros(2)
    >>> changed(before, kept)
    ['a', 'c']

    Args:
        before: of :func:`versions`.
        tensors: those of now.
    """
    now = versions(tensors)
    names = [*before, *(name for name in now if name not in before)]
    return [name for name in names if not _same(before.get(name), now.get(name))]


def _same(one: tuple[Tensor, int] | None, other: tuple[Tensor, int] | None) -> bool:
    return one is not None and other is not None and one[0] is other[0] and one[1] == other[1]
