"""Values in 8 bits, with a scale for each 256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from fedray.core.messages import Parts
from fedray.transforms.base import transforms
from fedray.transforms.codec import VALUES, Codec, Direction, Draws, check_direction

GROUP = 256
_MOST = 127
_SCALE = "scale"

Rounding = Literal["stochastic", "nearest"]


@transforms.register("int8")
@dataclass(frozen=True)
class Int8(Codec):
    """Every value as a whole number from -127 to 127, with one float32 scale for each 256 of them.

    ``scale = max |x| / 127`` over the 256, and ``x`` becomes ``x / scale``, rounded: 1.016 bytes a value. With
    ``stochastic`` rounding it becomes one of its two neighbours, the nearer the likelier, so that its expectation is
    ``x``: the error of a cohort's mean shrinks as the cohort grows, and a small value that all clients agree on is not
    lost beside a large one (QSGD, Alistarh et al., arXiv:1610.02132; of updates of many local steps FedPAQ,
    Reisizadeh et al., arXiv:1909.13014).  With ``nearest`` an error is at most ``scale / 2`` and not ``scale``, but it
    is the same in every round: what is below half a scale never arrives.  Draws are named by (seed, round, client).

    Deviation: a scale for each 256 values, by their largest, in the place of one norm for all.

    >>> sent = Int8(rounding="nearest").encode(torch.tensor([[0.0, 0.5, -1.27, 0.006]]), Draws())
    >>> sent["values"], sent["scale"]
    (tensor([[   0,   50, -127,    1]], dtype=torch.int8), tensor([[0.0100]]))
    >>> Int8().decode(sent, 4)
    tensor([[ 0.0000,  0.5000, -1.2700,  0.0100]])

    Args:
        rounding: ``stochastic`` or ``nearest``.
        direction: ``up`` for updates, ``down`` for the broadcast model, or ``both``.
    """

    rounding: Rounding = "stochastic"
    direction: Direction = "up"

    def __post_init__(self) -> None:
        check_direction(self.direction)
        if self.rounding not in get_args(Rounding):
            raise ValueError(f"rounding={self.rounding!r}: it must be stochastic or nearest")

    def encode(self, values: Tensor, draws: Draws) -> Parts:
        """Scale each 256 by their largest, and round."""
        size = values.shape[1]
        steps = _grouped(values)
        scale = steps.abs().amax(dim=2).div_(_MOST)
        # Of zeros, and of values so small that their scale is none.
        steps = steps / torch.where(scale == 0, torch.ones_like(scale), scale).unsqueeze(2)
        steps = steps.flatten(1)[:, :size]
        if self.rounding == "nearest":
            whole = steps.round()
        else:
            whole = steps.floor()
            whole = whole + (draws.uniform(steps) < steps - whole)
        return {VALUES: whole.nan_to_num_(nan=1.0).clamp_(-_MOST, _MOST).to(torch.int8), _SCALE: scale}

    def decode(self, sent: Parts, size: int) -> Tensor:
        """Multiply by the scales; where one is not finite, none of its 256 values is."""
        scaled = _grouped(sent[VALUES].to(torch.float32)) * sent[_SCALE].unsqueeze(2)
        return scaled.flatten(1).narrow(1, 0, size)


def _grouped(values: Tensor) -> Tensor:
    """Return ``[C, n]`` as ``[C, g, 256]``, the last filled up with zeros."""
    groups = -(-values.shape[1] // GROUP)
    grouped: Tensor = pad(values, (0, groups * GROUP - values.shape[1])).unflatten(1, (groups, GROUP))
    return grouped
