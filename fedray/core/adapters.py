"""Low-rank adapters in a vector: which of its entries are the factors A and B of one, by the names that peft gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.regions import Entry

RESIDUAL = "base_residual"
"""The name of a layer's buffer ``[out, in]``, which is added to ``B A``: what an algorithm has changed the base by."""

_FACTOR = re.compile(r"(?:^|\.)lora_(embedding_)?([AB])(?=\.|$)")


def factor_of(name: str) -> Literal["A", "B"] | None:
    """Return which factor of an adapter a tensor is, by its name; None: it is none.

    ``A`` is the one that is drawn at random and ``B`` the one that begins as 0: of peft's adapters of an embedding that
    is ``lora_embedding_B``, and ``lora_embedding_A``.

    >>> factor_of("layers.0.q_proj.lora_A.default.weight"), factor_of("embed.lora_embedding_A.default")
    ('A', 'B')
    >>> factor_of("layers.0.q_proj.weight") is None
    True

    Args:
        name: as in the module's ``state_dict``.
    """
    found = _FACTOR.search(name)
    if found is None:
        return None
    return "A" if (found[2] == "A") is (found[1] is None) else "B"


def is_residual(name: str) -> bool:
    """Return True for the name of a change of the base.

    >>> is_residual("layers.0.q_proj.base_residual"), is_residual("residual")
    (True, False)
    """
    return name.rpartition(".")[2] == RESIDUAL


@dataclass(frozen=True)
class Adapter:
    """The adapter of one linear layer, ``W x + scale * (B A + residual) x``, as entries of the vector.

    Args:
        name: of the layer.
        a: A, ``[r, in]``.
        b: B, ``[out, r]``.
        residual: the change of the base ``[out, in]``, where the server has one.
    """

    name: str
    a: Entry
    b: Entry
    residual: Entry | None = None

    def factors(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return A ``[..., r, in]`` and B ``[..., out, r]`` of vectors ``[..., P]``, or of their first ``[..., S]``.

        They are views.
        """
        a, b = (vectors[..., one.start : one.stop] for one in (self.a, self.b))
        return a.unflatten(-1, self.a.shape), b.unflatten(-1, self.b.shape)

    def change(self, vector: Tensor) -> Tensor:
        """Return the change of the base ``[out, in]`` in a vector ``[P]``, a view."""
        assert self.residual is not None, self.name
        return vector[self.residual.start : self.residual.stop].view(self.residual.shape)

    def mean_product(self, start: Tensor, deltas: Tensor, shares: Tensor) -> Tensor:
        """Return ``sum p_i B_i A_i``, ``[out, in]``, float64: one product of the factors of all clients in their order.

        Args:
            start: the parameters that all started from, ``[S]``.
            deltas: the clients' changes, ``[n, S]``.
            shares: p, float64 ``[n]``.
        """
        pairs = zip(self.factors(start), self.factors(deltas), strict=True)
        a, b = (first.double() + change.double() for first, change in pairs)
        weighed = (b * shares.view(-1, 1, 1)).movedim(0, 1).flatten(1)
        return weighed @ a.flatten(0, 1)


def adapters_of(layout: Layout) -> tuple[Adapter, ...]:
    """Return the adapters of linear layers both of whose factors travel, in the order of the vector.

    >>> from torch import nn
    >>> layer = nn.ModuleDict({"lora_A": nn.Linear(3, 2, bias=False), "lora_B": nn.Linear(2, 4, bias=False)})
    >>> [(one.name, one.a.shape, one.b.shape) for one in adapters_of(Layout.of(nn.ModuleDict({"fc": layer})))]
    [('fc', (2, 3), (4, 2))]

    Args:
        layout: of the model.
    """
    return tuple(_pairs(layout))


def _pairs(layout: Layout) -> Iterator[Adapter]:
    travel = {entry.name: entry for entry in layout.parameters if entry.region == "shared"}
    changes = {entry.name: entry for entry in layout.rest if is_residual(entry.name)}
    for entry in travel.values():
        found = _FACTOR.search(entry.name)
        if found is None or found[1] or found[2] != "A" or len(entry.shape) != 2:
            continue
        name = entry.name[: found.start()]
        other = travel.get(f"{entry.name[: found.end() - 1]}B{entry.name[found.end() :]}")
        if other is not None and len(other.shape) == 2:
            yield Adapter(name, entry, other, changes.get(f"{name}.{RESIDUAL}" if name else RESIDUAL))


def rank_mask(layout: Layout, ranks: Tensor) -> Tensor:
    """Return 1 for the values that clients of lower ranks train, and 0 for others, float32 ``[C, D]``.

    Of an adapter those are the first rows of A and columns of B, as many as the rank; of the rest all are trained.

    Args:
        layout: of the model.
        ranks: of each client, integers ``[C]``.
    """
    mask = torch.ones(len(ranks), layout.trained, device=ranks.device)
    for one in adapters_of(layout):
        a, b = one.factors(mask)
        trained = torch.arange(a.shape[1], device=ranks.device) < ranks[:, None]
        a.mul_(trained[:, :, None])
        b.mul_(trained[:, None, :])
    return mask
