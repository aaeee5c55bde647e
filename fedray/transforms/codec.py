"""Codecs: an update, or the broadcast model, in fewer bytes on its way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fedray.core.messages import Parts
from fedray.core.rng import Purpose, numpy_generator
from fedray.transforms.base import Transform

Direction = Literal["up", "down", "both"]

VALUES = "values"
"""The name of the encoded values, which a further codec may encode again."""


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of those who encode, each by its own name: the same whoever encodes beside it.

    >>> alone, both = (Draws(1, "encode", 3, keys).uniform(torch.empty(len(keys), 2)) for keys in ([7], [5, 7]))
    >>> bool((alone[0] == both[1]).all())
    True

    Args:
        seed: the run's seed.
        purpose: ``encode`` for clients, ``broadcast`` for the server.
        round: round number.
        keys: a client's key for each row, ``[C]``; 0 for the server.
    """

    seed: int = 0
    purpose: Purpose = "encode"
    round: int = 0
    keys: Sequence[int] = field(default=(0,))

    @cached_property
    def _generators(self) -> list[np.random.Generator]:
        return [numpy_generator(self.seed, self.purpose, self.round, key) for key in self.keys]

    def uniform(self, like: Tensor) -> Tensor:
        """Draw uniformly from [0, 1): float32, of the shape ``[C, k]`` of ``like`` and on its device."""
        if like.is_meta:
            return torch.empty_like(like)
        drawn = np.empty(like.shape, dtype=np.float32)
        for generator, row in zip(self._generators, drawn, strict=True):
            generator.random(out=row, dtype=np.float32)
        return torch.from_numpy(drawn).to(like.device)


class Codec(Transform):
    """The base of transforms that send in another form: ``decode`` gives back what ``encode`` was given, or about it.

    The trained entries of an update are encoded last of all on the client, behind the client halves of all transforms,
    and decoded before they are folded; those of the broadcast model before clients train from them, while the server
    keeps, and evaluates, what it had.  Codecs work in the order of the config, each on the values that the one before
    it has left, and are undone in reverse.

    >>> class Halves(Codec):  # 16 bits for each value
    ...     direction = "up"
    ...     def encode(self, values, draws):
    ...         return {VALUES: values.half()}
    ...     def decode(self, sent, size):
    ...         return sent[VALUES].float()
    >>> travelled((Halves(),), torch.tensor([[1.0, 0.1]]), Draws())
    tensor([[1.0000, 0.1000]])
    >>> encoded_bytes((Halves(),), 1000)
    2000

    Attributes:
        direction: ``up`` (updates), ``down`` (the broadcast model), or ``both``.
        rounds: True if what is decoded is not what was encoded.
    """

    direction: Direction
    rounds: ClassVar[bool] = True

    @property
    def up(self) -> bool:
        """True if updates are encoded."""
        return self.direction != "down"

    @property
    def down(self) -> bool:
        """True if the broadcast model is encoded."""
        return self.direction != "up"

    @property
    def enlarges(self) -> bool:
        """True where a rounded update may be longer than it was."""
        return self.rounds and self.up

    @abstractmethod
    def encode(self, values: Tensor, draws: Draws) -> Parts:
        """Return what travels: ``values`` ``[C, m]``, and further tensors ``[C, ...]`` by names of its own.

        Their shapes and types depend on the shape of ``values`` alone, and it runs on meta tensors, which have nothing
        else: by them bytes are counted.  A client's result does not depend on the other rows.

        Args:
            values: float32 ``[C, n]``, not to be changed.
            draws: named draws.
        """

    @abstractmethod
    def decode(self, sent: Parts, size: int) -> Tensor:
        """Return the values, float32 ``[C, size]``; what was not finite must not become so."""


def check_direction(direction: str) -> None:
    """Raise ValueError unless a codec's direction is one."""
    if direction not in get_args(Direction):
        raise ValueError(f"direction={direction!r}: it must be up, down or both")


def travelled(codecs: Sequence[Codec], values: Tensor, draws: Draws) -> Tensor:
    """Return rows ``[C, n]`` as they arrive at the other end."""
    sent: list[tuple[Codec, Parts, int]] = []
    for codec in codecs:
        parts = codec.encode(values, draws)
        sent.append((codec, parts, values.shape[1]))
        values = parts[VALUES]
    for codec, parts, size in reversed(sent):
        values = codec.decode({**parts, VALUES: values}, size)
    return values


def encoded_bytes(codecs: Sequence[Codec], size: int) -> int:
    """Return the bytes of ``size`` values on their way: those of all that the codecs make of them.

    >>> encoded_bytes((), 1000)
    4000
    """
    total, values = 0, torch.empty(1, size, device="meta")
    for codec in codecs:
        parts = codec.encode(values, Draws())
        total += sum(part.nbytes for name, part in parts.items() if name != VALUES)
        values = parts[VALUES]
    return total + values.nbytes
