"""Models that run in lanes, and what each of their clients makes of its rows alone."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedray.core.layout import Layout
from fedray.data.columns.inputs import InputColumns, call
from fedray.local.lanes import LaneForward, Lanes, lanes_of


class Attention(nn.Module):
    """Causal attention by torch's fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.mix, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        found: Tensor = self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return found


class Layer(nn.Module):
    """A layer of a decoder."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.before, self.attention, self.between = nn.LayerNorm(width), Attention(width, 2), nn.RMSNorm(width)
        self.wide = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.before(x)))
        found: Tensor = x + self.drop(self.wide(self.between(x)))
        return found


class Decoder(nn.Module):
    """Tokens ``[B, T]`` to scores of the next one, ``[B, T, V]``: tied tables, positions that no example brings."""

    def __init__(self, tokens: int = 11, width: int = 8, length: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(tokens, width, padding_idx=3), nn.Embedding(length, width)
        self.layers = nn.ModuleList([Layer(width, dropout) for _ in range(2)])
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.token.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        for layer in self.layers:
            x = self.run(layer, x)
        found: Tensor = self.head(x)
        return found

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Run a layer; another decoder may forget what it makes."""
        found: Tensor = layer(x)
        return found


def worst(module: nn.Module, x: Tensor | InputColumns) -> float:
    """Return how far outputs and gradients of clients in lanes are from what each alone has, relative to the largest.

    ``x``: inputs ``[C, B, ...]``.
    """
    layout = Layout.of(module)
    lanes = lanes_of(module, layout, x[0])
    assert isinstance(lanes, Lanes), lanes
    draw = torch.Generator().manual_seed(1)
    start = layout.pack(dict(module.state_dict()))[: layout.trained]
    rows = start + 0.1 * torch.randn(len(x), layout.trained, generator=draw)
    stack = rows.clone().requires_grad_()
    used = copy.deepcopy(module)
    forward = LaneForward(used, layout, lanes)
    with forward.installed():
        output = forward(layout.split(stack), x)
        weights = torch.randn(output.shape, generator=draw)
        (output * weights).sum().backward()
    assert not any("forward" in vars(part) for part in used.modules())
    assert stack.grad is not None
    found = []
    stacked = layout.split(rows)
    for client in range(len(rows)):
        alone = copy.deepcopy(module)
        # In the module itself: what computes again in a backward would see other parameters after functional_call.
        for name, tensor in layout.tensors(alone).items():
            if name in stacked:
                tensor.data = stacked[name][client].detach().clone()
        single = call(alone, x[client])
        (single * weights[client]).sum().backward()
        gradients = [layout.tensors(alone)[entry.name].grad for entry in layout.parameters]
        grad = torch.cat([one.flatten() for one in gradients if one is not None])
        for one, other in ((output[client], single), (stack.grad[client], grad)):
            found.append(float(((one - other).abs().max() / other.abs().max()).detach()))
    return max(found)
