"""Plain feed-forward models over a leading axis of clients, without vmap.

Small models spend their time between kernels.  A ``nn.Sequential`` of linear layers and elementwise activations is run
here as a handful of batched matrix products, in the same arithmetic as vmap would, at three quarters of its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Layer = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Parameters ``[A, *shape]`` by name and inputs ``[A, B, ...]`` to outputs ``[A, B, ...]``."""


@dataclass(frozen=True)
class Forward:
    """A module's forward pass over a leading axis of clients.

    Args:
        layers: one after the other.
        ends_in_head: the last one has parameters, so that its inputs are the features.
        names: of the modules that the layers run.
    """

    layers: Sequence[Layer]
    ends_in_head: bool
    names: Sequence[str] = ()

    def __call__(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the outputs."""
        for layer in self.layers:
            x = layer(params, x)
        return x

    @property
    def writes(self) -> bool:
        """True if a layer writes into what the one before gave."""
        return any(isinstance(layer, _Elementwise) and layer.inplace for layer in self.layers)

    def knowing(self, params: dict[str, Tensor], x: Tensor, known: dict[str, Tensor]) -> Tensor:
        """Return the outputs, with those of some linear layers by name as they are ``known`` for these inputs.

        The outputs of others that have no gradient are added to these.
        """
        for layer, name in zip(self.layers, self.names, strict=True):
            if not isinstance(layer, _Linear):
                x = layer(params, x)
                continue
            x = layer(params, x, known.get(name))
            if not x.requires_grad:
                known[name] = x
        return x

    def with_features(self, params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs, and the inputs of the last layer."""
        for layer in self.layers[:-1]:
            x = layer(params, x)
        return self.layers[-1](params, x), x

    def fixed(self, moved: Collection[str]) -> int:
        """Return the number of layers before the first one that has some of these tensors."""
        own = {name.rpartition(".")[0] for name in moved}
        return next((place for place, name in enumerate(self.names) if name in own), 0)

    def cut(self, count: int) -> tuple[Forward, Forward]:
        """Return the first layers, and the others."""
        first = Forward(self.layers[:count], False, self.names[:count])
        return first, Forward(self.layers[count:], self.ends_in_head, self.names[count:])

    def with_layers(
        self, params: dict[str, Tensor], x: Tensor, names: Collection[str]
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return the outputs, and the inputs and outputs of some layers, to which gradients are then taken."""
        seen = {}
        for layer, name in zip(self.layers, self.names, strict=True):
            out = layer(params, x)
            if name in names:
                seen[name] = x, out if out.requires_grad else out.requires_grad_()
            x = out
        return x, seen


_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Identity)


def batched_forward(module: nn.Module) -> Forward | None:
    """Return the module's forward pass over a leading axis of clients; ``None`` if a part of it is not known here.

    Known are ``nn.Sequential`` (nested), ``nn.Linear``, ``nn.Flatten`` of everything but the batch, and elementwise
    activations; exactly these classes, without hooks, each used once, with parameters of their own that all train.
    """
    if type(module) is not nn.Sequential or any(map(_hooked, module.modules())):
        return None
    steps = _steps(module, "")
    shared = len(list(module.modules())) < len(list(module.named_modules(remove_duplicate=False)))
    tied = len(list(module.parameters())) < len(list(module.named_parameters(remove_duplicate=False)))
    if steps is None or shared or tied or not all(parameter.requires_grad for parameter in module.parameters()):
        return None
    last = list(module.modules())[-1]
    return Forward([layer for layer, _ in steps], type(last) is nn.Linear, [name for _, name in steps])


def _steps(module: nn.Module, prefix: str) -> list[tuple[Layer, str]] | None:
    steps: list[tuple[Layer, str]] = []
    for name, child in module.named_children():
        step: Layer | None = None
        if type(child) is nn.Sequential:
            inner = _steps(child, f"{prefix}{name}.")
            if inner is None:
                return None
            steps += inner
            continue
        if type(child) is nn.Linear:
            step = _Linear(f"{prefix}{name}.weight", f"{prefix}{name}.bias" if child.bias is not None else None)
        elif type(child) is nn.Flatten and (child.start_dim, child.end_dim) == (1, -1):
            step = _flatten
        elif type(child) in _ELEMENTWISE:
            step = _elementwise(child)
        if step is None:
            return None
        steps.append((step, f"{prefix}{name}"))
    return steps


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _flatten(params: dict[str, Tensor], x: Tensor) -> Tensor:
    return x.flatten(2)


def _elementwise(module: nn.Module) -> Layer:
    return _Elementwise(module)


@dataclass(frozen=True)
class _Elementwise:
    """An activation."""

    module: nn.Module

    @property
    def inplace(self) -> bool:
        return bool(getattr(self.module, "inplace", False))

    def __call__(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        return out


@dataclass(frozen=True)
class _Linear:
    """A linear layer, whose outputs may be known."""

    weight: str
    bias: str | None

    def __call__(self, params: dict[str, Tensor], x: Tensor, known: Tensor | None = None) -> Tensor:
        own = params[self.weight], params[self.bias] if self.bias else None
        if known is not None:
            known = known.flatten(1, -2)
        out: Tensor = ClientLinear.apply(x.flatten(1, -2), *own, known)  # type: ignore[no-untyped-call]
        return out.view(*x.shape[:-1], -1)


class ClientLinear(torch.autograd.Function):
    """``x W^T + b`` for each client; the gradient for W comes out contiguous, where baddbmm's is a transpose.

    Where it is known already, it is not computed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, known: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if known is not None:
            return known
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight) if needs_x else None,
            torch.bmm(grad.transpose(1, 2), x) if needs_weight else None,
            grad.sum(dim=1) if needs_bias else None,
            None,
        )
