"""Batched products are what vmap computes, for the models they know, and are not used for others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedray.local.batched import batched_forward

KNOWN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), (5,)),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), (2, 3)),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh()), nn.Linear(4, 2)), (5,)),
    "sequences": (lambda: nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 2)), (6, 5)),
}


def shared() -> nn.Module:
    """One layer, used twice."""
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.ReLU(), layer)


def hooked() -> nn.Module:
    """A layer that somebody watches."""
    module = nn.Sequential(nn.Linear(5, 5))
    module[0].register_forward_hook(lambda *_: None)
    return module


def hooked_whole() -> nn.Module:
    """The same of the whole model."""
    module = nn.Sequential(nn.Linear(5, 5))
    module.register_forward_hook(lambda *_: None)
    return module


def hooked_backward() -> nn.Module:
    """A layer whose gradients somebody watches."""
    module = nn.Sequential(nn.Linear(5, 5))
    module[0].register_full_backward_hook(lambda *_: None)
    return module


def tied() -> nn.Module:
    """Two layers of one weight."""
    module = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    module[2].weight = module[0].weight
    return module


def frozen() -> nn.Module:
    """A layer that does not train: its weight is nobody's own."""
    module = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    module[0].requires_grad_(False)
    return module


class Doubled(nn.Linear):
    """Looks like a linear layer and is not one."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 2, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5)),
    "own class": lambda: Doubled(5, 5),
    "tied": tied,
    "frozen": frozen,
    "own class inside": lambda: nn.Sequential(Doubled(5, 5)),
    "partial flatten": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(5, 5)),
    "shared layer": shared,
    "hook": hooked,
    "hook of the whole": hooked_whole,
    "hook of a backward pass": hooked_backward,
}


@pytest.mark.parametrize("name", KNOWN)
def test_outputs_and_gradients_are_those_of_vmap(name: str) -> None:
    make, shape = KNOWN[name]
    module = make()
    generator = torch.Generator().manual_seed(1)
    params = {n: torch.randn(3, *p.shape, generator=generator).requires_grad_() for n, p in module.named_parameters()}
    x = torch.randn(3, 4, *shape, generator=generator)
    forward = batched_forward(module)
    assert forward is not None

    def one(params: dict[str, Tensor], x: Tensor) -> Tensor:
        output: Tensor = functional_call(module, params, (x,))
        return output

    outputs, expected = forward(params, x), vmap(one)(params, x)
    torch.testing.assert_close(outputs, expected)
    weights = torch.randn(outputs.shape, generator=generator)
    ours = torch.autograd.grad((outputs * weights).sum(), list(params.values()))
    theirs = torch.autograd.grad((expected * weights).sum(), list(params.values()))
    torch.testing.assert_close(ours, theirs)
    assert all(grad.is_contiguous() for grad in ours)


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_models_are_left_to_vmap(name: str) -> None:
    assert batched_forward(UNKNOWN[name]()) is None
