"""Modules of shapes alone: built without weights and without memory, to count what a run of them takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedray.data.spec import DataSpec
from fedray.models.registry import Model

_ALONE: ContextVar[bool] = ContextVar("shapes_alone", default=False)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Let tensors that are made in the context have a shape and a type, and neither values nor memory: on ``meta``.

    >>> with shapes_alone():
    ...     layer = nn.Linear(10**6, 10**6)
    >>> layer.weight.nbytes, layer.weight.device, has_values(layer.weight)
    (4000000000000, device(type='meta'), False)
    """
    token = _ALONE.set(True)
    try:
        with torch.device("meta"):
            yield
    finally:
        _ALONE.reset(token)


@contextmanager
def as_on_cpu(module: nn.Module) -> Iterator[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """Let tensors that are made in the context say that they are on the CPU, without values and memory there either.

    They are torch's fake tensors, so that a model takes the same ways through its code as it does there, and an
    attention the same kernels.  Yields a copy of a module with such tensors, and what makes one of any.

    >>> with shapes_alone():
    ...     layer = nn.Linear(3, 2)
    >>> with as_on_cpu(layer) as (copied, moved):
    ...     copied(moved(torch.zeros(4, 3))).device
    device(type='cpu')

    Args:
        module: the module, which stays as it is.
    """
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # takes half a second

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    known: dict[int, Tensor] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            one: Tensor = FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))
            known[id(tensor)] = nn.Parameter(one, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else one
        return known[id(tensor)]

    copied = copy.deepcopy(module)
    held: list[dict[str, Any]] = [tensors for part in copied.modules() for tensors in (part._parameters, part._buffers)]
    before = [tensor for tensors in held for tensor in tensors.values()]  # whose ids are not to be others'
    for tensors in held:
        tensors.update({name: moved(tensor) for name, tensor in tensors.items() if tensor is not None})
    token = _ALONE.set(True)
    try:
        with mode:
            yield copied, moved
    finally:
        _ALONE.reset(token)
        before.clear()


def builds_shapes() -> bool:
    """Return whether modules are built of shapes alone, so that no weights need be read."""
    return _ALONE.get()


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor has values, which one of a shape alone lacks."""
    return tensor.untyped_storage().device.type != "meta"


@dataclass(frozen=True)
class Shaped:
    """A model that is built of shapes alone.

    Args:
        model: the model.
    """

    model: Model

    @property
    def name(self) -> str:
        """Its name in the config."""
        return self.model.name

    def build(self, spec: DataSpec) -> nn.Module:
        """Return the module, of shapes alone."""
        with shapes_alone():
            return self.model.build(spec)
