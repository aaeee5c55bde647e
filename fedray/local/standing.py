"""Other tensors in a module's places: for a forward, and again where a backward computes that forward anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Tensors = Mapping[str, Tensor]
"""Tensors by the names of the parameters and buffers in whose place they stand."""


class Standing:
    """The tensors that stand in a module: its own, or others.

    ``torch.func.functional_call`` puts a module's own back when the forward ends, so that activation checkpointing
    computes it again in the backward with those, without a word: the gradient is that of another model.  Here ``at``
    says what stands, which :func:`fedray.local.dropout.recomputing` carries to where that is.

    >>> import torch
    >>> layer = nn.Linear(1, 1, bias=False)
    >>> standing = Standing(layer)
    >>> with standing.of({"weight": torch.tensor([[3.0]])}):
    ...     layer(torch.ones(1, 1))
    tensor([[3.]])
    >>> isinstance(layer.weight, nn.Parameter)
    True

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._at: Tensors | None = None
        self._own: list[tuple[dict[str, Any], str, Tensor]] = []
        self._places: dict[str, list[tuple[dict[str, Any], str]]] = {}
        names: dict[int, str] = {}
        for path, part in module.named_modules():
            for held in (part._parameters, part._buffers):
                for leaf, tensor in held.items():
                    if tensor is not None:
                        # Of tied weights the first name is that of all.
                        name = names.setdefault(id(tensor), f"{path}.{leaf}" if path else leaf)
                        self._places.setdefault(name, []).append((held, leaf))

    @property
    def at(self) -> Tensors | None:
        """The tensors that stand in the place of the module's own; None: these do."""
        return self._at

    @at.setter
    def at(self, tensors: Tensors | None) -> None:
        if tensors is self._at:
            return
        for held, leaf, own in self._own:
            held[leaf] = own
        self._own, self._at = [], tensors
        for name, tensor in (tensors or {}).items():
            for held, leaf in self._places[name]:
                self._own.append((held, leaf, held[leaf]))
                held[leaf] = tensor

    @contextmanager
    def of(self, tensors: Tensors) -> Iterator[None]:
        """Put tensors in the place of the module's own for the length of the context."""
        before, self.at = self.at, tensors
        try:
            yield
        finally:
            self.at = before
