"""Values in 8 or 4 bits, with a scale for each 256."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from fedray.config.registry import name_of
from fedray.core.messages import DELTA, BlockUpdate, Parts
from fedray.transforms.base import Setting, transforms
from fedray.transforms.codec import VALUES, Codec, Direction, Draws, check_direction, travelled

GROUP = 256
_SCALE, _RESIDUAL = "scale", "residual"

Rounding = Literal["stochastic", "nearest"]


@dataclass(frozen=True)
class Quantized(Codec):
    """The base of codecs that send whole numbers, and one float32 scale for each 256 of them.

    Args:
        rounding: ``stochastic`` or ``nearest``.
        direction: ``up`` for updates, ``down`` for the broadcast model, or ``both``.
        error_feedback: a client adds to its update what was rounded off of the one before.

    Attributes:
        most: the largest whole number that travels; the least is minus it.
    """

    rounding: Rounding = "stochastic"
    direction: Direction = "up"
    error_feedback: bool = False

    most: ClassVar[int]

    def __post_init__(self) -> None:
        check_direction(self.direction)
        if self.rounding not in get_args(Rounding):
            raise ValueError(f"rounding={self.rounding!r}: it must be stochastic or nearest")
        if self.error_feedback and self.rounding != "nearest":
            raise ValueError(
                "error_feedback=True: stochastic rounding is right on average, and leaves nothing to be made up for: "
                "take rounding: nearest"
            )
        if self.error_feedback and not self.up:
            raise ValueError("error_feedback=True: it is for updates, and direction is down: take up, or both")

    def prepare(self, setting: Setting) -> Quantized:
        """Return the codec; ValueError where what is rounded off is not what one of the codecs before leaves out."""
        before = next((t for t in setting.before if isinstance(t, Codec) and t.up), None)
        if self.error_feedback and before is not None:
            raise ValueError(
                f"error_feedback keeps what is rounded off of a whole update, and {name_of(before)}, which stands "
                "before it, sends it in another form: leave error_feedback out"
            )
        return self

    @property
    def state(self) -> tuple[str, ...]:
        """The residual, with error feedback."""
        return (_RESIDUAL,) if self.error_feedback else ()

    @property
    def changes_updates(self) -> bool:
        """True with error feedback."""
        return self.error_feedback

    def on_clients(self, update: BlockUpdate) -> None:
        """Round the rows of ``delta``, with error feedback, so that they travel as they are, and keep what is left."""
        if not self.error_feedback:
            return
        delta = update.parts[DELTA]
        delta.add_(update.state[_RESIDUAL])
        sent = travelled([self], delta, Draws())
        update.state[_RESIDUAL] = delta - sent
        delta.copy_(sent)

    def encode(self, values: Tensor, draws: Draws) -> Parts:
        """Scale each 256 by their largest, and round."""
        size = values.shape[1]
        steps = _grouped(values)
        scale = steps.abs().amax(dim=2).div_(self.most)
        # Of zeros, and of values so small that their scale is none.
        steps = steps / torch.where(scale == 0, torch.ones_like(scale), scale).unsqueeze(2)
        steps = steps.flatten(1)[:, :size]
        if self.rounding == "nearest":
            whole = steps.round()
        else:
            whole = steps.floor()
            whole = whole + (draws.uniform(steps) < steps - whole)
        whole = whole.nan_to_num_(nan=1.0).clamp_(-self.most, self.most)
        return {VALUES: self.packed(whole.to(torch.int8)), _SCALE: scale}

    def decode(self, sent: Parts, size: int) -> Tensor:
        """Multiply by the scales; where one is not finite, none of its 256 values is."""
        whole = self.unpacked(sent[VALUES], size)
        scaled = _grouped(whole.to(torch.float32)) * sent[_SCALE].unsqueeze(2)
        return scaled.flatten(1).narrow(1, 0, size)

    @abstractmethod
    def packed(self, whole: Tensor) -> Tensor:
        """Return whole numbers, int8 ``[C, n]``, as they travel."""

    @abstractmethod
    def unpacked(self, sent: Tensor, size: int) -> Tensor:
        """Return what was packed, ``[C, size]``."""


@transforms.register("int8")
@dataclass(frozen=True)
class Int8(Quantized):
    """Every value as a whole number from -127 to 127, with one float32 scale for each 256 of them.

    ``scale = max |x| / 127`` over the 256, and ``x`` becomes ``x / scale``, rounded: 1.016 bytes a value. With
    ``stochastic`` rounding it becomes one of its two neighbours, the nearer the likelier, so that its expectation is
    ``x``: the error of a cohort's mean shrinks as the cohort grows, and a small value that all clients agree on is not
    lost beside a large one (QSGD, Alistarh et al., arXiv:1610.02132; of updates of many local steps FedPAQ,
    Reisizadeh et al., arXiv:1909.13014).  With ``nearest`` an error is at most ``scale / 2`` and not ``scale``, but it
    is the same in every round: what is below half a scale never arrives, unless ``error_feedback`` adds what was
    rounded off to the client's next update (Seide et al., INTERSPEECH 2014; Karimireddy et al., arXiv:1901.09847).
    Draws are named by (seed, round, client).

    Deviation: a scale for each 256 values, by their largest, in the place of one norm for all.

    >>> sent = Int8(rounding="nearest").encode(torch.tensor([[0.0, 0.5, -1.27, 0.006]]), Draws())
    >>> sent["values"], sent["scale"]
    (tensor([[   0,   50, -127,    1]], dtype=torch.int8), tensor([[0.0100]]))
    >>> Int8().decode(sent, 4)
    tensor([[ 0.0000,  0.5000, -1.2700,  0.0100]])

    Args:
        rounding: ``stochastic`` or ``nearest``.
        direction: ``up`` for updates, ``down`` for the broadcast model, or ``both``.
        error_feedback: a client adds to its update what was rounded off of the one before; with ``nearest``.
    """

    most: ClassVar[int] = 127

    def packed(self, whole: Tensor) -> Tensor:
        return whole

    def unpacked(self, sent: Tensor, size: int) -> Tensor:
        return sent


@transforms.register("int4")
@dataclass(frozen=True)
class Int4(Quantized):
    """Every value as a whole number from -7 to 7, two of them in a byte, with one float32 scale for each 256.

    As :class:`fedray.Int8`, with ``scale = max |x| / 7``: 0.516 bytes a value.  Of updates of many local steps, such as
    the outer gradients of DiLoCo, 4 bits lose little (Douillard et al., arXiv:2501.18512, section 3.3, which has 4-bit
    floating point numbers where these are whole ones with a scale).

    >>> sent = Int4(rounding="nearest").encode(torch.tensor([[0.0, 0.5, -0.7]]), Draws())
    >>> sent["values"], sent["scale"]  # 5 and 0, then -7
    (tensor([[80,  9]], dtype=torch.uint8), tensor([[0.1000]]))
    >>> Int4().decode(sent, 3)
    tensor([[ 0.0000,  0.5000, -0.7000]])

    Args:
        rounding: ``stochastic`` or ``nearest``.
        direction: ``up`` for updates, ``down`` for the broadcast model, or ``both``.
        error_feedback: a client adds to its update what was rounded off of the one before; with ``nearest``.
    """

    most: ClassVar[int] = 7

    def packed(self, whole: Tensor) -> Tensor:
        low, high = pad(whole, (0, whole.shape[1] % 2)).view(torch.uint8).unflatten(1, (-1, 2)).unbind(2)
        sent: Tensor = (low & 15) | (high << 4)
        return sent

    def unpacked(self, sent: Tensor, size: int) -> Tensor:
        half = torch.stack([sent << 4, sent & 240], dim=2).flatten(1)[:, :size]
        whole: Tensor = half.contiguous().view(torch.int8) >> 4
        return whole


def _grouped(values: Tensor) -> Tensor:
    """Return ``[C, n]`` as ``[C, g, 256]``, the last filled up with zeros."""
    groups = -(-values.shape[1] // GROUP)
    grouped: Tensor = pad(values, (0, groups * GROUP - values.shape[1])).unflatten(1, (groups, GROUP))
    return grouped
