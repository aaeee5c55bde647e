"""Models of the grid that judges ``local.stack: auto``, see ``stacks.py``."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn


def logistic() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def mlp(*widths: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return build


def convolutions(
    *channels: int, side: int, kernel: int = 3, norm: bool = False, hidden: int = 0
) -> Callable[[], nn.Module]:
    """Convolutions that keep the size, each with ReLU and 2x2 max pooling, and a head."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(channels):
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            layers += [nn.GroupNorm(2, outputs)] if norm else []
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        flat = channels[-1] * (side // 2 ** (len(channels) - 1)) ** 2
        head = [nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 10)] if hidden else [nn.Linear(flat, 10)]
        return nn.Sequential(*layers, nn.Flatten(), *head)

    return build


def lenet(inputs: int, side: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        flat = 16 * ((((side - 4) // 2) - 4) // 2) ** 2
        return nn.Sequential(
            *(nn.Conv2d(inputs, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(flat, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )

    return build


def series() -> nn.Module:
    """Convolutions over time, as for the sensors of a phone: 9 x 128."""
    return nn.Sequential(
        *(nn.Conv1d(9, 32, 5), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(32, 32, 5), nn.ReLU(), nn.MaxPool1d(4)),
        *(nn.Flatten(), nn.Linear(32 * 6, 6)),
    )


def attention(dim: int, places: int, heads: int = 4) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True)
        return nn.Sequential(layer, nn.Flatten(), nn.Linear(places * dim, 10))

    return build


class Adapted(nn.Module):
    """A frozen linear layer with an adapter of rank 8 beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down, self.up = nn.Linear(inputs, 8, bias=False), nn.Linear(8, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.base(x) + self.up(self.down(x))
        return found


class AdaptedLayer(nn.Module):
    """A layer of a transformer, four heads, of which adapters train."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim).requires_grad_(False) for _ in range(2)])
        self.mix, self.out = Adapted(dim, 3 * dim), Adapted(dim, dim)
        self.wide, self.narrow = Adapted(dim, 4 * dim), Adapted(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.mix(self.norms[0](x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        found: torch.Tensor = x + self.narrow(nn.functional.gelu(self.wide(self.norms[1](x))))
        return found


class Adapters(nn.Module):
    """Adapters of a frozen transformer, and a head."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers, self.head = nn.Sequential(*[AdaptedLayer(dim) for _ in range(layers)]), nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.layers(x).mean(dim=1))
        return found
