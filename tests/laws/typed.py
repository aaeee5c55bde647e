"""An algorithm whose clients keep a part of each type, which no other type could hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm
from fedray.core.fields import DTYPES
from fedray.local.clients import Clients

NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


def first(dtype: torch.dtype) -> Tensor:
    """What newcomers have, ``[3]``: the largest numbers, and no round ones."""
    if dtype == torch.bool:
        return torch.tensor([True, False, True])
    if dtype.is_floating_point:
        return torch.tensor([1.0 / 3.0, torch.finfo(dtype).max / 3.0, -0.1], dtype=dtype)
    return torch.tensor([torch.iinfo(dtype).max, torch.iinfo(dtype).min, 7], dtype=dtype)


def after(kept: Tensor, size: Tensor, round: int) -> Tensor:
    """What clients of so many examples, ``[C]``, make of what they keep, ``[C, 3]``, in a round."""
    step = (size.long() + round)[:, None]
    if kept.dtype == torch.bool:
        return kept ^ (step % 2 == 1)
    if kept.dtype.is_floating_point:
        return kept / 3 + step.to(kept.dtype)
    return kept * 5 + step.to(kept.dtype)


@dataclass(frozen=True)
class Typed(Algorithm):
    """FedAvg, whose clients also keep a part of each type, and send two apart."""

    def initial_state(self, c: Clients) -> dict[str, Tensor]:
        return {name: first(dtype) for name, dtype in NAMES.items()}

    def client(self, c: Clients) -> None:
        c.fit()
        for name in NAMES:
            c.state[name] = after(c.state[name], c.sizes, c.round)
        c.send("count", c.state["int64"].clone(), apart=True)
        c.send("mask", c.state["bool"].clone(), apart=True)
