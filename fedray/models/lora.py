"""Low-rank adapters in modules: linear layers of one's own that have some, and what is added to the base of any."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray.core.adapters import RESIDUAL, factor_of, is_residual
from fedray.core.errors import ConfigError, listed
from fedray.core.regions import matches


class LoRALinear(nn.Module):
    """A frozen linear layer with an adapter (Hu et al., arXiv:2106.09685): ``W x + b + alpha / r * B A x``.

    The factors are the layers ``lora_A`` and ``lora_B``, as peft calls them.  A is drawn as a linear layer's weight is,
    B is 0 at first.

    >>> layer = LoRALinear(nn.Linear(3, 2), r=1, alpha=2.0)
    >>> torch.equal(layer(torch.ones(1, 3)), layer.base_layer(torch.ones(1, 3)))
    True

    Args:
        base: the layer, whose parameters get no gradient.
        r: rank, at least 1.
        alpha: scale of the adapter, times r.
    """

    def __init__(self, base: nn.Linear, r: int, alpha: float) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, r, bias=False)
        self.lora_B = nn.Linear(r, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.scaling = alpha / r

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., out]`` of ``[..., in]``."""
        adapted: Tensor = self.base_layer(x) + self.scaling * self.lora_B(self.lora_A(x))
        return adapted


def adapted(module: nn.Module, r: int = 8, alpha: float = 16.0, targets: Sequence[str] = ("*",)) -> nn.Module:
    """Freeze a module, and put adapters beside its linear layers, as :class:`LoRALinear`; returns the module.

    What else is to be trained, such as a new head, gets its gradient back by ``requires_grad_()``.

    >>> net = adapted(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), r=2, targets=["0"])
    >>> [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    ['0.lora_A.weight', '0.lora_B.weight']

    Args:
        module: changed in place; not a linear layer itself, but what has some.
        r: rank of each adapter, at least 1.
        alpha: scale of the adapters, times r, above 0.
        targets: patterns of the names of the layers that get one; all by default.

    Raises:
        ConfigError: no linear layer is called so, or a number is out of range.
    """
    if r < 1 or not alpha > 0:
        raise ConfigError(f"adapters: r={r} and alpha={alpha:g}: r must be at least 1, alpha above 0")
    layers = {name: part for name, part in module.named_modules() if type(part) is nn.Linear and name}
    module.requires_grad_(False)
    for pattern in targets:
        if not any(matches(name, (pattern,)) for name in layers):
            known = listed(list(layers), "none")
            raise ConfigError(f"adapters: no linear layer is called {pattern!r}; there are {known}")
    for name, layer in layers.items():
        if matches(name, targets):
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, LoRALinear(layer, r, alpha).to(layer.weight.device))
    return module


def add_residuals(module: nn.Module, only: Collection[str] | None = None) -> None:
    """Give the layers that have adapters a buffer ``[out, in]`` of zeros, which they add to ``B A``.

    It is part of the saved state, float32 whatever the base is, sees inputs before the adapter's dropout, and is scaled
    as the adapter is.

    >>> net = adapted(nn.Sequential(nn.Linear(3, 2)), r=1, alpha=2.0)
    >>> add_residuals(net)
    >>> with torch.no_grad():
    ...     before = net(torch.ones(1, 3))
    ...     _ = net[0].base_residual.fill_(1.0)
    ...     net(torch.ones(1, 3)) - before
    tensor([[6., 6.]])

    Args:
        module: changed in place; layers that have the buffer already stay as they are.
        only: the names of the buffers to add; None: all.

    Raises:
        ConfigError: an adapter of another layer than a linear one, or several of one layer.
    """
    for name, layer in list(module.named_modules()):
        own = _factors(layer)
        if not own or hasattr(layer, RESIDUAL) or (only is not None and _named(name) not in only):
            continue
        if own != ["lora_A"] or not hasattr(layer, "scaling"):
            raise ConfigError(
                f"algorithm: {name} is {type(layer).__name__}, and only bases of linear layers change, with an adapter "
                "as peft and fedray.parts.adapted make it (lora_A, lora_B, scaling)"
            )
        a, b = (_only(name, layer.get_submodule(factor)) for factor in ("lora_A", "lora_B"))
        layer.register_buffer(RESIDUAL, torch.zeros(b.out_features, a.in_features, device=a.weight.device))
        layer.register_forward_hook(_with_residual, with_kwargs=True)


def merge_residuals(module: nn.Module) -> bool:
    """Add the buffers to the weights of the bases, in new memory, and zero them; returns True if any was not 0.

    In a base of less precision than float32 that rounds.
    """
    merged = False
    for layer in module.modules():
        residual = getattr(layer, RESIDUAL, None)
        if not isinstance(residual, Tensor) or not residual.any():
            continue
        base = layer.get_submodule("base_layer")
        change = _scale(layer) * residual
        weight: Any = base.weight
        weight.data = (weight.float() + (change.T if getattr(layer, "fan_in_fan_out", False) else change)).to(
            weight.dtype
        )
        residual.zero_()
        merged = True
    return merged


def changes_base(module: nn.Module) -> bool:
    """Return True if a buffer of :func:`add_residuals` is not 0."""
    return any(bool(buffer.any()) for name, buffer in module.named_buffers() if is_residual(name))


def _named(name: str) -> str:
    return f"{name}.{RESIDUAL}" if name else RESIDUAL


def _factors(layer: nn.Module) -> list[str]:
    """Return the names of a layer's parts that are factors drawn at random, and have parameters."""
    parts = ((name, part) for name, part in layer.named_children() if factor_of(name) == "A")
    return [name for name, part in parts if any(True for _ in part.parameters())]


def _only(name: str, factor: nn.Module) -> nn.Linear:
    """Return the one linear layer that a factor is, by itself or by the name of an adapter."""
    found = [part for part in factor.modules() if any(True for _ in part.parameters(recurse=False))]
    if len(found) != 1 or not isinstance(found[0], nn.Linear):
        kinds = listed([type(part).__name__ for part in found])
        raise ConfigError(
            f"algorithm: the adapter of {name} is {kinds}; only bases of linear layers change, with one each"
        )
    return found[0]


def _scale(layer: Any) -> float:
    """Return the scale of a layer's adapter; peft has one for each adapter's name."""
    scaling = layer.scaling
    return float(next(iter(scaling.values())) if isinstance(scaling, dict) else scaling)


def _with_residual(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    x = args[0] if args else next(iter(kwargs.values()))
    change = functional.linear(x.to(layer.base_residual.dtype), layer.base_residual)
    return output + (_scale(layer) * change).to(output.dtype)
