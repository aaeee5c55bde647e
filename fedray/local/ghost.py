"""Layers whose gradients for single examples need not be made: their norms, and their weighted sums, without them.

With the inputs a of a layer and the gradients g of the outputs, the gradient of an example is ``g^T a`` over its T rows
(positions, or places of a kernel).  Its norm is that of ``(a a^T) * (g g^T)``, summed, ``T x T`` (Goodfellow,
arXiv:1510.01799, for T = 1; Bu et al., arXiv:2205.10683), and weighted sums are one product over all examples (the
book-keeping of Bu et al., arXiv:2210.00038).  Norms are float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Named = dict[str, Tensor]
"""Gradients by the parameters' own names, ``weight`` and ``bias``."""


class Ghost(Protocol):
    """The contract of such a layer.

    Inputs and gradients of outputs are ``[A, B, ...]``, of A clients with B examples each.
    """

    def squares(self, seen: Tensor, grads: Tensor, names: frozenset[str]) -> Tensor:
        """Return the squared norm of each example's gradient for some parameters, float64 ``[A, B]``."""

    def sums(self, seen: Tensor, grads: Tensor, factors: Tensor, names: frozenset[str]) -> Named:
        """Return the sums of the examples' gradients, times ``factors`` ``[A, B]``: ``[A, *shape]`` by name."""

    def floats(self, seen: Tensor, grads: Tensor) -> int:
        """Return the numbers that an example needs memory for, of tensors of one example each."""


@dataclass(frozen=True)
class Matrix:
    """A layer that multiplies rows by a matrix: linear, or a convolution, whose rows are what its kernel covers.

    Args:
        layer: the module, for its options.
    """

    layer: nn.Module

    def _rows(self, seen: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs ``[A, B, G, T, I]`` and gradients ``[A, B, G, T, O]``, of G groups of channels."""
        if isinstance(self.layer, nn.Linear):
            a, b = grads.shape[:2]
            return (
                seen.reshape(a, b, 1, -1, self.layer.in_features),
                grads.reshape(a, b, 1, -1, self.layer.out_features),
            )
        return _patches(self.layer, seen, grads)

    def squares(self, seen: Tensor, grads: Tensor, names: frozenset[str]) -> Tensor:
        """See :class:`Ghost`."""
        rows, slopes = self._rows(seen, grads)
        count, (inner, outer) = rows.shape[3], (rows.shape[4], slopes.shape[4])
        found = torch.zeros(slopes.shape[:2], dtype=torch.float64, device=slopes.device)
        if count == 1:
            own = _squared(slopes, 4)
            if "weight" in names:
                found += (_squared(rows, 4) * own).sum(dim=(2, 3))
            return found + own.sum(dim=(2, 3)) if "bias" in names else found
        if "weight" in names and count * count * 2 <= inner * outer:
            # Products of Gram matrices cancel: in float64 what is left of that is far below the slack of a clip.
            rows, slopes64 = rows.double(), slopes.double()
            gram = (rows @ rows.transpose(3, 4)) * (slopes64 @ slopes64.transpose(3, 4))
            found += gram.sum(dim=(2, 3, 4)).clamp(min=0.0)
        elif "weight" in names:
            found += _squared(slopes.transpose(3, 4) @ rows, (2, 3, 4))
        if "bias" in names:
            found += _squared(slopes.sum(dim=3, keepdim=True), (2, 3, 4))
        return found

    def sums(self, seen: Tensor, grads: Tensor, factors: Tensor, names: frozenset[str]) -> Named:
        """See :class:`Ghost`."""
        rows, slopes = self._rows(seen, grads)
        slopes = (slopes * factors[:, :, None, None, None]).transpose(1, 2).flatten(2, 3)  # [A, G, B * T, O]
        found = {}
        if "weight" in names:
            weight = slopes.transpose(2, 3) @ rows.transpose(1, 2).flatten(2, 3)
            found["weight"] = weight.reshape(len(weight), *_shape(self.layer))
        if "bias" in names:
            found["bias"] = slopes.sum(dim=2).flatten(1)
        return found

    def floats(self, seen: Tensor, grads: Tensor) -> int:
        """See :class:`Ghost`."""
        rows, slopes = self._rows(seen, grads)
        gram = min(2 * rows.shape[3] ** 2, rows.shape[4] * slopes.shape[4]) * rows.shape[2]
        return 3 * (rows.numel() + slopes.numel()) + gram


@dataclass(frozen=True)
class Table:
    """An embedding, whose inputs are places in its weight.

    Args:
        layer: the module, for its options.
    """

    layer: nn.Embedding

    def _rows(self, seen: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
        """Return places ``[A, B, T]`` and gradients ``[A, B, T, E]``."""
        a, b = grads.shape[:2]
        places, slopes = seen.reshape(a, b, -1), grads.reshape(a, b, -1, self.layer.embedding_dim)
        if self.layer.padding_idx is not None:
            slopes = slopes.masked_fill((places == self.layer.padding_idx).unsqueeze(-1), 0.0)
        return places, slopes

    def squares(self, seen: Tensor, grads: Tensor, names: frozenset[str]) -> Tensor:
        """See :class:`Ghost`."""
        places, slopes = self._rows(seen, grads)
        slopes64 = slopes.double()
        same = places.unsqueeze(-1) == places.unsqueeze(-2)
        return ((slopes64 @ slopes64.transpose(2, 3)) * same).sum(dim=(2, 3)).clamp(min=0.0)

    def sums(self, seen: Tensor, grads: Tensor, factors: Tensor, names: frozenset[str]) -> Named:
        """See :class:`Ghost`."""
        places, slopes = self._rows(seen, grads)
        a, size, width = len(places), self.layer.num_embeddings, self.layer.embedding_dim
        whole = slopes.new_zeros(a * size, width)
        offset = torch.arange(a, device=places.device)[:, None, None] * size
        whole.index_add_(0, (places + offset).reshape(-1), (slopes * factors[:, :, None, None]).reshape(-1, width))
        return {"weight": whole.view(a, size, width)}

    def floats(self, seen: Tensor, grads: Tensor) -> int:
        """See :class:`Ghost`."""
        return 3 * grads.numel() + 3 * seen.numel() ** 2


def ghost_of(layer: nn.Module) -> Ghost | None:
    """Return the rule for a layer; None: there is none, and the gradients of its examples are made.

    >>> ghost_of(nn.LayerNorm(3)) is None, type(ghost_of(nn.Conv2d(3, 8, 3)))
    (True, <class 'fedray.local.ghost.Matrix'>)
    """
    if type(layer) is nn.Linear:
        return Matrix(layer)
    if type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d) and layer.padding_mode == "zeros":
        return Matrix(layer)
    if type(layer) is nn.Embedding and layer.max_norm is None and not layer.scale_grad_by_freq:
        return Table(layer)
    return None


def _shape(layer: nn.Module) -> tuple[int, ...]:
    """Return the shape of a weight, which may be without memory here."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size


def _squared(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return squared norms, float64."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=dim, dtype=torch.float64)
    return norms.square()


def _patches(layer: nn.Module, seen: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the kernel of a convolution covers at each place, and the gradients there, by groups of channels."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    a, b, dims = *grads.shape[:2], len(layer.kernel_size)
    inputs = seen.reshape(-1, layer.in_channels, *seen.shape[-dims:])
    slopes = grads.reshape(a, b, layer.groups, layer.out_channels // layer.groups, -1).transpose(3, 4)
    padding = _padding(layer)
    inputs = F.pad(inputs, [side for pair in reversed(padding) for side in pair])
    for place in range(dims):
        reach = layer.dilation[place] * (layer.kernel_size[place] - 1) + 1
        inputs = inputs.unfold(2 + place, reach, layer.stride[place])
    # The kernel may leave out places between those it covers.
    for place, step in enumerate(layer.dilation):
        inputs = inputs[(slice(None),) * (2 + dims + place) + (slice(None, None, int(step)),)]
    order = (0, *range(2, 2 + dims), 1, *range(2 + dims, 2 + 2 * dims))
    rows = inputs.permute(order).reshape(a, b, slopes.shape[3], layer.groups, -1).transpose(2, 3)
    return rows, slopes


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[tuple[int, int]]:
    """Return what is added before and behind each axis."""
    if isinstance(layer.padding, str):
        if layer.padding == "valid":
            return [(0, 0)] * len(layer.kernel_size)
        both = [step * (size - 1) for step, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(math.floor(total / 2), total - math.floor(total / 2)) for total in both]
    return [(int(side), int(side)) for side in layer.padding]


def ghosts(module: nn.Module, calls: Mapping[str, int], moved: frozenset[str]) -> dict[str, Ghost]:
    """Return the rules of those layers of a model that have one, by the layers' names.

    Args:
        module: the model.
        calls: the number of times that a forward pass calls each layer: one that is called twice has no rule.
        moved: the names of the parameters that train; of tensors with two names, all.
    """
    uses: dict[int, int] = {}
    for _, tensor in module.named_parameters(remove_duplicate=False):
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    found = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        own = dict(layer.named_parameters(recurse=False))
        names = {f"{name}.{key}" if name else key for key in own}
        apart = all(uses[id(tensor)] == 1 for tensor in own.values())
        if names & moved and apart and calls.get(name) == 1 and (rule := ghost_of(layer)) is not None:
            found[name] = rule
    return found
