"""Small transformer decoder: what comes next, at each position of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models.fit import check_counts, check_dropout, token_length
from fedray.models.registry import models
from fedray.models.transformer import Attention, Layer

_EMBEDDING_STD = 0.02
_BASE = 10_000.0


@models.register("decoder")
@dataclass(frozen=True)
class Decoder:
    """A language model: the logits of the next token at each position, for ``task: causal_lm``.

    Layers of causal self-attention and a feedforward part, normalised before each (Xiong et al., arXiv:2002.04745),
    with GELU, four times wider inside.  Positions are rotations of queries and keys (RoPE, Su et al.,
    arXiv:2104.09864), so that sequences may have any length; no position sees what stands behind it, and so no padding.
    Embedding and head have the same weights (Press and Wolf, arXiv:1608.05859).

    >>> module = Decoder(dim=16, heads=2, layers=1).build(DataSpec(shape=(8,), outputs=50, vocabulary=50))
    >>> module(torch.zeros(2, 8, dtype=torch.int64)).shape
    torch.Size([2, 8, 50])

    Args:
        dim: width of the model.
        heads: attention heads; ``dim / heads`` must be a whole even number.
        layers: number of layers.
        dropout: probability in [0, 1), after the embedding, the attention weights, and both parts of a layer.
    """

    name: ClassVar[str]
    dim: int = 96
    heads: int = 4
    layers: int = 3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_counts(dim=self.dim, heads=self.heads, layers=self.layers)
        check_dropout(self.dropout)
        if self.dim % (2 * self.heads):
            raise ConfigError(
                f"dim / heads must be a whole even number, as positions turn pairs of numbers; got dim {self.dim} and "
                f"heads {self.heads}"
            )

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, int64 ``[B, T]`` to ``[B, T, vocabulary]``; ConfigError unless token sequences."""
        token_length(spec, self.name)
        return TokenDecoder(spec.vocabulary, self.dim, self.heads, self.layers, self.dropout)


class CausalAttention(Attention):
    """Multi-head self-attention in which a position sees itself and those before it.

    Args:
        dim: width of the model.
        heads: number of heads.
        dropout: probability of dropping an attention weight.
    """

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Return how much each position looks at each, minus infinity at those behind it."""
        later = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).triu(1)
        return super().scores(rotated(query), rotated(key)).masked_fill(later, float("-inf"))


def rotated(x: Tensor) -> Tensor:
    """Turn pairs of the last axis of ``[..., length, size]`` by angles that grow with the position.

    Pair i of position t, numbers i and i + size / 2, is turned by ``t / 10000^(2 i / size)`` (arXiv:2104.09864,
    equation 15): the product of two turned vectors depends on how far apart they are, and not on where they stand.

    >>> near, far = rotated(torch.ones(4, 2))[[1, 3]], rotated(torch.ones(9, 2))[[6, 8]]
    >>> torch.allclose(near[0] @ near[1], far[0] @ far[1])
    True
    """
    length, size = x.shape[-2:]
    slow = _BASE ** (-torch.arange(0, size, 2, dtype=torch.float32, device=x.device) / size)
    angle = torch.arange(length, dtype=torch.float32, device=x.device)[:, None] * slow
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TokenDecoder(nn.Module):
    """Embedding, layers, normalisation, and a head with the weights of the embedding.

    Args:
        vocabulary: number of distinct tokens.
        dim: width of the model.
        heads: attention heads.
        layers: number of layers.
        dropout: probability of dropping a value.
    """

    def __init__(self, vocabulary: int, dim: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.embed.weight, std=_EMBEDDING_STD)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(Layer(dim, heads, dropout, CausalAttention) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T]`` to ``[B, T, vocabulary]``."""
        logits: Tensor = self.head(self.norm(self.layers(self.dropout(self.embed(x)))))
        return logits
