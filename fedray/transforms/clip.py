"""Clipping of each client's update to a Euclidean norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from fedray.core.messages import BlockUpdate
from fedray.transforms.base import Transform, transforms


@transforms.register("clip")
@dataclass(frozen=True)
class Clip(Transform):
    """Clipping of each client's update to an L2 norm of at most ``norm``: ``delta * min(1, norm / ||delta||)``.

    Flat clipping over all D trained parameters (McMahan et al., arXiv:1710.06963).  The norm is taken in float64 and
    the factor rounded towards zero, so that the float32 result does not exceed the bound; a zero update stays zero; a
    non-finite update stays non-finite, and is then dropped as such.

    >>> import numpy as np
    >>> one, delta = np.ones(1), torch.tensor([[3.0, 4.0]])
    >>> Clip(norm=1.0).on_clients(BlockUpdate(1, np.array([0]), {"delta": delta}, {}, one, one, one))
    >>> delta
    tensor([[0.6000, 0.8000]])

    Args:
        norm: the bound S > 0.
    """

    norm: float = 1.0

    scope: ClassVar[Literal["elementwise", "norm", "whole"]] = "norm"

    def __post_init__(self) -> None:
        if not self.norm > 0.0:
            raise ValueError(f"norm={self.norm}: the clipping norm must be above 0")

    def on_clients(self, update: BlockUpdate) -> None:
        """Clip the rows of ``delta``."""
        delta = update.parts["delta"]
        norms = update.norms("delta")
        # Each product rounds by up to half a unit in the last place; one part in 2**22 keeps the norm below the bound.
        factor = (self.norm * (1.0 - 2.0**-22) / norms).to(torch.float32)
        over = ~(norms <= self.norm)
        delta.mul_(torch.where(over, factor, torch.ones_like(factor)).unsqueeze(1))
