"""Small transformer encoder for tokens, images and feature vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models.fit import check_counts, check_dropout, image_shape, misfit, token_length
from fedray.models.registry import models

_WIDENING = 4
_EMBEDDING_STD = 0.02


@models.register("transformer")
@dataclass(frozen=True)
class Transformer:
    """Encoder with learned positions, pre-norm layers, mean pooling and a linear head.

    What a position of the sequence holds depends on the data: a token ``(length,)``; a patch of an image
    ``(channels, height, width)``, as in Dosovitskiy et al., arXiv:2010.11929, but pooled by the mean in the place of
    a class token; a feature vector of a sequence ``(length, features)``; or one number of a flat input
    ``(features,)``.  Layers as in Vaswani et al., arXiv:1706.03762, normalised before each part (Xiong et al.,
    arXiv:2002.04745), GELU, four times wider inside.  Of two columns, ``input_ids`` and ``attention_mask``, as texts
    with targets are, positions whose mask is 0 are seen by none and are in no mean; else all positions count.

    >>> module = Transformer(dim=16, heads=2, layers=1).build(DataSpec(shape=(1, 8, 8), outputs=10))
    >>> module(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])

    Args:
        dim: width of the model.
        heads: attention heads, a divisor of ``dim``.
        layers: number of layers.
        dropout: probability in [0, 1), after the embedding, the attention weights, and both parts of a layer.
        patch: side of a square image patch in pixels, a divisor of height and width; unused for other data.
    """

    name: ClassVar[str]
    dim: int = 64
    heads: int = 4
    layers: int = 2
    dropout: float = 0.0
    patch: int = 4

    def __post_init__(self) -> None:
        check_counts(dim=self.dim, heads=self.heads, layers=self.layers, patch=self.patch)
        check_dropout(self.dropout)
        if self.dim % self.heads:
            raise ConfigError(f"heads must divide dim, got heads {self.heads} and dim {self.dim}")

    def build(self, spec: DataSpec) -> nn.Module:
        """Build the module, ``[B, *shape]`` to ``[B, outputs]``; ConfigError if the data is none of the five kinds."""
        kind = Encoder
        if spec.tokens is not None and [column.name for column in spec.columns] == ["input_ids", "attention_mask"]:
            kind = TextEncoder
            spec = replace(spec, shape=spec.tokens.shape, vocabulary=spec.tokens.vocabulary, columns=())
        embed, length = self._embedding(spec)
        return kind(embed, length, spec.outputs, self.dim, self.heads, self.layers, self.dropout)

    def _embedding(self, spec: DataSpec) -> tuple[nn.Module, int]:
        """Return the module from an input to ``[B, length, dim]``, and the length."""
        if spec.vocabulary:
            length = token_length(spec, self.name)
            embedding = nn.Embedding(spec.vocabulary, self.dim)
            nn.init.normal_(embedding.weight, std=_EMBEDDING_STD)
            return embedding, length
        if len(spec.shape) == 3:
            channels, height, width = image_shape(spec, self.name)
            if height % self.patch or width % self.patch:
                raise ConfigError(
                    f"model.patch: {self.patch} must divide the image's height and width; the data has {spec.shape}"
                )
            length = (height // self.patch) * (width // self.patch)
            return nn.Sequential(Patches(self.patch), nn.Linear(channels * self.patch**2, self.dim)), length
        if len(spec.shape) == 2:
            return nn.Linear(spec.shape[1], self.dim), spec.shape[0]
        if len(spec.shape) == 1:
            return nn.Sequential(nn.Unflatten(1, (-1, 1)), nn.Linear(1, self.dim)), spec.shape[0]
        raise misfit(spec, self.name, "tokens, images, feature sequences or feature vectors")


class Patches(nn.Module):
    """Images cut into square patches, row by row.

    Args:
        side: of a patch in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, height, width]`` to ``[B, patches, channels * side * side]``."""
        batch, channels, height, width = x.shape
        cut = x.reshape(batch, channels, height // self.side, self.side, width // self.side, self.side)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * self.side**2)


class Attention(nn.Module):
    """Multi-head self-attention, ``softmax(Q K^T / sqrt(dim / heads)) V`` per head.

    Written out with an ``nn.Dropout`` of its own, so that every random draw of the model is in such a module.

    Args:
        dim: width of the model.
        heads: number of heads.
        dropout: probability of dropping an attention weight.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.project = nn.Linear(dim, 3 * dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Map ``[B, length, dim]`` to the same; positions where ``known`` ``[B, length]`` is False are unseen."""
        batch, length, dim = x.shape
        apart = self.project(x).reshape(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = apart.permute(2, 0, 3, 1, 4).unbind(0)
        scores = self.scores(query, key)
        if known is not None:
            scores = scores.masked_fill(~known[:, None, None], float("-inf"))
        weights = self.dropout(scores.softmax(dim=3))
        mixed: Tensor = self.output((weights @ value).transpose(1, 2).flatten(2))
        return mixed

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Return how much each position looks at each, ``[B, heads, length, length]``, before the softmax.

        Args:
            query: ``[B, heads, length, dim / heads]``.
            key: the same.
        """
        scores: Tensor = query * self.scale @ key.transpose(2, 3)
        return scores


class Layer(nn.Module):
    """``x + attention(norm(x))``, then ``x + feedforward(norm(x))``.

    Args:
        dim: width of the model.
        heads: attention heads.
        dropout: probability of dropping a value.
        attention: the kind of attention.
    """

    def __init__(self, dim: int, heads: int, dropout: float, attention: type[Attention] = Attention) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(dim), attention(dim, heads, dropout), nn.Dropout(dropout))
        wide = _WIDENING * dim
        widen, narrow = nn.Linear(dim, wide), nn.Linear(wide, dim)
        self.feed = nn.Sequential(nn.LayerNorm(dim), widen, nn.GELU(), narrow, nn.Dropout(dropout))

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """Map ``[B, length, dim]`` to ``[B, length, dim]``; see :class:`Attention` for ``known``."""
        norm, attention, dropout = self.attend
        x = x + dropout(attention(norm(x), known))
        total: Tensor = x + self.feed(x)
        return total


class Encoder(nn.Module):
    """Embedding plus positions, layers, normalisation, mean over positions, head.

    Args:
        embed: module from an input batch to ``[B, length, dim]``.
        length: number of positions.
        outputs: size of the output.
        dim: width of the model.
        heads: attention heads.
        layers: number of layers.
        dropout: probability of dropping a value.
    """

    def __init__(
        self, embed: nn.Module, length: int, outputs: int, dim: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed = embed
        self.positions = nn.Parameter(torch.empty(length, dim))
        nn.init.normal_(self.positions, std=_EMBEDDING_STD)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(Layer(dim, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, *shape]`` to ``[B, outputs]``."""
        hidden = self.layers(self.dropout(self.embed(x) + self.positions))
        logits: Tensor = self.head(self.norm(hidden).mean(dim=1))
        return logits


class TextEncoder(Encoder):
    """The encoder of texts of different lengths, whose padding is seen by nobody."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
        """Map tokens, and a mask that is 0 at padding, int64 ``[B, T]``, T up to the length, to ``[B, outputs]``."""
        known = attention_mask > 0
        hidden = self.dropout(self.embed(input_ids) + self.positions[: input_ids.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden, known)
        there = known.unsqueeze(2).to(hidden.dtype)
        logits: Tensor = self.head((self.norm(hidden) * there).sum(dim=1) / there.sum(dim=1))
        return logits
