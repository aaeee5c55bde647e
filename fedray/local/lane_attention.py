"""``nn.MultiheadAttention`` of the rows of C clients, each with projections of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.local.batched import ClientLinear


def attention(
    m: Any,
    own: Mapping[str, Tensor],
    clients: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return what ``m`` gives, batch first; arguments are those of its own forward.

    >>> m = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    >>> x, same = torch.randn(6, 3, 4), {"in_proj_weight": m.in_proj_weight.expand(2, 12, 4)}
    >>> found, wanted = attention(m, same, 2, x, x, x)[0], m(x, x, x)[0]
    >>> bool(torch.allclose(found, wanted, atol=1e-6))
    True

    Args:
        m: the module, which calls its ``out_proj``.
        own: ``in_proj_weight`` ``[C, 3 E, E]`` and ``in_proj_bias`` ``[C, 3 E]``, where they are each client's own.
        clients: C.
        query: ``[C * n, T, E]``, the rows of client 0 first.
        key: likewise, ``[C * n, S, E]``.
        value: likewise.
        key_padding_mask: ``[C * n, S]``.
        need_weights: give attention weights, too.
        attn_mask: ``[T, S]`` or ``[C * n * heads, T, S]``.
        average_attn_weights: give their mean over heads.
        is_causal: a hint that ``attn_mask`` is the causal one.
    """
    rows, length, width = query.shape
    heads: int = m.num_heads
    dropout: float = m.dropout if m.training else 0.0
    q, k, v = _projected(m, own, clients, query, key, value)
    q, k, v = (one.view(rows, -1, heads, width // heads).transpose(1, 2) for one in (q, k, v))
    mask = _merged(attn_mask, key_padding_mask, rows, heads, q.dtype)
    if need_weights:
        scores = q * (width // heads) ** -0.5 @ k.transpose(2, 3)
        weights = (scores if mask is None else scores + mask).softmax(dim=-1)
        if dropout:
            weights = F.dropout(weights, dropout)
        mixed = weights @ v
    else:
        weights, mixed = None, F.scaled_dot_product_attention(q, k, v, mask, dropout)
    out: Tensor = m.out_proj(mixed.transpose(1, 2).reshape(rows, length, width))
    return out, weights.mean(dim=1) if weights is not None and average_attn_weights else weights


def _projected(
    m: Any, own: Mapping[str, Tensor], clients: int, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, ...]:
    def each(name: str) -> Tensor | None:
        shared: Tensor | None = getattr(m, name)
        if name in own or shared is None:
            return own.get(name)
        return shared.expand(clients, *shared.shape)

    weight, bias = each("in_proj_weight"), each("in_proj_bias")
    assert weight is not None

    def product(x: Tensor, part: slice) -> Tensor:
        return products(x, weight[:, part], None if bias is None else bias[:, part])

    width = query.shape[-1]
    if query is key and key is value:
        return product(query, slice(0, 3 * width)).chunk(3, dim=-1)
    parts = (slice(place * width, (place + 1) * width) for place in range(3))
    return tuple(product(x, part) for x, part in zip((query, key, value), parts, strict=True))


def _merged(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, rows: int, heads: int, dtype: torch.dtype
) -> Tensor | None:
    """Return both masks as numbers that are added to scores ``[rows, heads, T, S]``."""
    found = None
    if attn_mask is not None:
        found = _added(attn_mask, dtype)
        found = found.view(rows, heads, *found.shape[1:]) if len(found) == rows * heads and found.dim() == 3 else found
    if key_padding_mask is not None:
        padding = _added(key_padding_mask, dtype).view(rows, 1, 1, -1)
        found = padding if found is None else found + padding
    return found


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


def products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x W^T + b`` for the rows of each client.

    >>> products(torch.ones(4, 2), torch.tensor([[[1.0, 1.0]], [[0.0, 3.0]]]), None).flatten()
    tensor([2., 2., 3., 3.])

    Args:
        x: ``[C * n, ..., inputs]``, the rows of client 0 first.
        weight: ``[C, outputs, inputs]``.
        bias: ``[C, outputs]``, if there is one.
    """
    rows = x.reshape(len(weight), -1, x.shape[-1])
    if torch.is_autocast_enabled(x.device.type):
        # It chooses types operation by operation, which a function of our own would bypass.
        across = weight.transpose(1, 2)
        out = torch.bmm(rows, across) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, across)
    else:
        out = ClientLinear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], weight.shape[1])
