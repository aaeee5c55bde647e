"""The models of the workloads, written for the bare loop: nothing of fedray in them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

VOCABULARY = 2048
"""The tokens of ``lora``."""

_RANK, _ALPHA = 8, 16


def tiny_model() -> nn.Module:
    """MLP 64-64-10: 4,810 parameters."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn_model() -> nn.Module:
    """Two unpadded 3x3 convolutions, a pool and two layers on 3x32x32: 1,626,442 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 14 * 14, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def wide_model() -> nn.Module:
    """Twelve layers of 2,048 and a head: 50,376,714 parameters."""
    layers = [layer for _ in range(12) for layer in (nn.Linear(2048, 2048), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(2048, 10))


def blaze_model() -> nn.Module:
    """Two unpadded 5x5 convolutions, each with a pool, and three layers on 3x32x32: 62,006 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions with group norms beside a shortcut, which is a 1x1 convolution where the shape changes.

    Args:
        inputs, outputs: channels.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.GroupNorm(2, outputs), nn.ReLU()),
            *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.GroupNorm(2, outputs)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.GroupNorm(2, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, inputs, h, w]`` to ``[B, outputs, h / stride, w / stride]``."""
        found: Tensor = (self.shortcut(x) + self.inner(x)).relu()
        return found


def resnet_model() -> nn.Module:
    """ResNet-18 (arXiv:1512.03385) for 3x32x32 with group norms: 11,173,962 parameters."""
    blocks = [
        Residual(max(64, wide // 2) if first else wide, wide, 2 if first and wide > 64 else 1)
        for wide in (64, 128, 256, 512)
        for first in (True, False)
    ]
    stem = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.GroupNorm(2, 64), nn.ReLU()
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Adapted(nn.Module):
    """A frozen linear layer, and an adapter of rank 8 that trains beside it (LoRA, arXiv:2106.09685)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs, bias=False).requires_grad_(False)
        self.down, self.up = nn.Linear(inputs, _RANK, bias=False), nn.Linear(_RANK, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., inputs]`` to ``[..., outputs]``."""
        found: Tensor = self.base(x) + self.up(self.down(x)) * (_ALPHA / _RANK)
        return found


class DecoderLayer(nn.Module):
    """Causal attention of eight heads and a feedforward part, normalised before each, of which adapters train."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim).requires_grad_(False) for _ in range(2)])
        self.mix, self.out = Adapted(dim, 3 * dim), Adapted(dim, dim)
        self.wide, self.narrow = Adapted(dim, 4 * dim), Adapted(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, dim]`` to the same."""
        q, k, v = self.mix(self.norms[0](x)).unflatten(-1, (3, 8, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        found: Tensor = x + self.narrow(gelu(self.wide(self.norms[1](x))))
        return found


class Decoder(nn.Module):
    """A language model whose head has the weights of its embedding.

    Args:
        dim: width.
        layers: number of layers.
        length: the most tokens.
    """

    def __init__(self, dim: int, layers: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, dim).requires_grad_(False)
        self.places = nn.Embedding(length, dim).requires_grad_(False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.layers = nn.Sequential(*[DecoderLayer(dim) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``[B, T]`` to logits of the next ones ``[B, VOCABULARY, T]``, as a cross-entropy takes them."""
        hidden = self.layers(self.embed(x) + self.places.weight[: x.shape[1]])
        return nn.functional.linear(self.norm(hidden), self.embed.weight).transpose(1, 2)


def lora_model() -> nn.Module:
    """A decoder of six layers of 512: 19,952,640 frozen parameters, and 393,216 of adapters."""
    return Decoder(512, 6, 32)
