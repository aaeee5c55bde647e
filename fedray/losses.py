"""Losses by name, and the loss of each single example of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

LossFn = Callable[[Tensor, Tensor], Tensor]
"""(output ``[B, ...]``, target ``[B, ...]``) to a scalar: the mean over the batch."""


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of logits ``[B, k]`` (or ``[B, k, T]``) with int64 classes ``[B]`` (``[B, T]``)."""
    return F.cross_entropy(output, target)


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of ``[B, k]`` against ``[B, k]``."""
    return F.mse_loss(output, target)


LOSSES: dict[str, LossFn] = {"cross_entropy": cross_entropy, "mse": mse}

TASK_LOSS = {"classification": "cross_entropy", "regression": "mse"}

_DIRECT: dict[LossFn, LossFn] = {
    cross_entropy: lambda o, t: (
        F.cross_entropy(o, t, reduction="none").flatten(1).mean(1)
        if t.dim() > 1
        else F.cross_entropy(o, t, reduction="none")
    ),
    mse: lambda o, t: F.mse_loss(o, t, reduction="none").flatten(1).mean(1),
}


def has_direct(loss: LossFn) -> bool:
    """Whether the loss of single examples is known for this function without vmap."""
    return loss in _DIRECT


def per_example(loss: LossFn, output: Tensor, target: Tensor) -> Tensor:
    """The loss of each example of a batch, ``[B]``, from a loss function that averages over its batch.

    Any such function works: those named here avoid a level of vmap, and one that vmap cannot run, because it looks at
    values, is called example by example.
    """
    direct = _DIRECT.get(loss)
    if direct is not None:
        return direct(output, target)

    def one(o: Tensor, t: Tensor) -> Tensor:
        return loss(o.unsqueeze(0), t.unsqueeze(0))

    try:
        values: Tensor = vmap(one)(output, target)
    except RuntimeError:
        values = torch.stack([one(o, t) for o, t in zip(output, target, strict=True)])
    return values
