"""Values in 16 bits: bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedray.core.messages import Parts
from fedray.transforms.base import transforms
from fedray.transforms.codec import VALUES, Codec, Direction, Draws, check_direction


@transforms.register("bf16")
@dataclass(frozen=True)
class BF16(Codec):
    """Every value in bfloat16, half of the bytes: the range of float32 with 8 bits of its 24 bits of precision.

    Rounded to the nearest, ties to even: a value has an exponent of its own, so that none is lost however small it is
    beside the others, and is off by ``|x| / 256`` at most.

    >>> sent = BF16().encode(torch.tensor([[1.0, 1.001, 3.14159]]), Draws())
    >>> BF16().decode(sent, 3)
    tensor([[1.0000, 1.0000, 3.1406]])

    Args:
        direction: ``up`` for updates, ``down`` for the broadcast model, or ``both``.
    """

    direction: Direction = "up"

    scope: ClassVar[Literal["elementwise", "norm", "whole"]] = "elementwise"

    def __post_init__(self) -> None:
        check_direction(self.direction)

    def encode(self, values: Tensor, draws: Draws) -> Parts:
        """Round to bfloat16."""
        return {VALUES: values.to(torch.bfloat16)}

    def decode(self, sent: Parts, size: int) -> Tensor:
        """Widen to float32."""
        return sent[VALUES].to(torch.float32)
