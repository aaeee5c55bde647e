"""Top-k sparsification with error feedback."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.core.messages import BlockUpdate, Parts
from fedray.transforms.base import transforms
from fedray.transforms.codec import VALUES, Codec, Direction, Draws

_INDEX = "index"


@transforms.register("topk")
@dataclass(frozen=True)
class TopK(Codec):
    """Top-k: the ``ceil(fraction * D)`` trained entries largest in magnitude are sent, the rest with the next update.

    ``sent = top_k(delta + residual)``, ``residual <- delta + residual - sent`` (Stich et al., "Sparsified SGD with
    Memory", arXiv:1809.07599, applied to a round's update instead of a gradient).  Without ``error_feedback`` the
    rest is lost. Of entries equal in magnitude at the border, those that torch's selection takes are sent, exactly k
    in all.  They travel as k values and as many int32 indices, and a further codec encodes the values; what that rounds
    off is lost, and is not in the residual.

    >>> import numpy as np
    >>> one, delta, kept = np.ones(1), torch.tensor([[3.0, -4.0, 1.0]]), {"residual": torch.zeros(1, 3)}
    >>> update = BlockUpdate(1, np.array([0]), {"delta": delta}, kept, one, one, one)
    >>> TopK(fraction=0.3).on_clients(update)
    >>> delta, update.state["residual"]
    (tensor([[ 0., -4.,  0.]]), tensor([[3., 0., 1.]]))

    Args:
        fraction: share of entries sent, in (0, 1]; 1 sends everything, unchanged.
        error_feedback: keep the residual on the client.
    """

    fraction: float = 0.1
    error_feedback: bool = True
    direction: ClassVar[Direction] = "up"  # type: ignore[misc]
    rounds: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"fraction={self.fraction}: it must be above 0 and at most 1")

    @property
    def state(self) -> tuple[str, ...]:
        """The residual, with error feedback."""
        return ("residual",) if self.error_feedback else ()

    @property
    def enlarges(self) -> bool:
        """True with error feedback: a residual of many rounds is added."""
        return self.error_feedback

    def kept(self, size: int) -> int:
        """Return k, the number of entries sent out of ``size``."""
        # 0.07 * 100 is 7.000000000000001.
        return math.ceil(round(self.fraction * size, 6))

    def on_clients(self, update: BlockUpdate) -> None:
        """Sparsify the rows of ``delta`` and keep the residual."""
        delta = update.parts["delta"]
        if self.error_feedback:
            delta.add_(update.state["residual"])
        chosen = delta.abs().topk(self.kept(delta.shape[1]), dim=1, sorted=False).indices
        sent = torch.zeros_like(delta).scatter_(1, chosen, delta.gather(1, chosen))
        if self.error_feedback:
            update.state["residual"] = delta - sent
        delta.copy_(sent)

    def encode(self, values: Tensor, draws: Draws) -> Parts:
        """Return the k largest values of a row, which are all that is left of it, and where they stand."""
        index = values.abs().topk(self.kept(values.shape[1]), dim=1, sorted=False).indices
        return {VALUES: values.gather(1, index), _INDEX: index.to(torch.int32)}

    def decode(self, sent: Parts, size: int) -> Tensor:
        """Put the values where they stood, among zeros."""
        values = sent[VALUES]
        return values.new_zeros(len(values), size).scatter_(1, sent[_INDEX].long(), values)
