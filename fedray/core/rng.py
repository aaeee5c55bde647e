"""Named randomness: every draw is a pure function of (seed, purpose, round, client).

There is no global generator and no state that one draw leaves to the next, so results cannot
depend on how work was split over workers, on retries, or on which worker finished first.

Two kinds of source:

* :func:`numpy_generator` and :func:`torch_generator` for draws made once per round or once per run;
* :class:`Stream`, a counter-based generator (Philox4x32-10, Salmon et al., "Parallel random numbers:
  as easy as 1, 2, 3", SC 2011) that draws for all clients of a block in a few tensor operations.
  Each client's numbers are the same whether it is drawn alone or with others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Purpose = Literal[
    "init",
    "cohort",
    "absence",
    "order",
    "work",
    "local",
    "dropout",
    "noise",
    "attack",
    "canary",
    "membership",
    "inversion",
    "aggregate",
    "encode",
    "mask",
    "broadcast",
    "partition",
    "data",
    "evaluate",
    "augment",
    "variant",
    "sweep",
    "sample",
    "program",
]
_PURPOSES: tuple[str, ...] = get_args(Purpose)

Words = TypeVar("Words", NDArray[np.int64], Tensor)

_LOW32 = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_NEAR = 1 << 14
"""The numbers that stay in the cache from one operation to the next."""

_ROUNDS = 10


def digest(seed: int, purpose: Purpose, round: int = 0, client: int = 0) -> bytes:
    """Return the 16 bytes that name a draw: BLAKE2b of the length-prefixed decimal forms of the four words.

    Args:
        seed: the run's seed, any integer.
        purpose: one of the fixed purposes; two purposes never share draws.
        round: round number (0 where there is none).
        client: client key, see ``ClientData.keys`` (0 where there is none).

    Raises:
        ValueError: unknown purpose.
    """
    if purpose not in _PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; known: {', '.join(_PURPOSES)}")
    hasher = hashlib.blake2b(digest_size=16, person=b"fedray.rng")
    for word in (str(int(seed)), purpose, str(int(round)), str(int(client))):
        data = word.encode()
        hasher.update(len(data).to_bytes(4, "little") + data)
    return hasher.digest()


def numpy_generator(seed: int, purpose: Purpose, round: int = 0, client: int = 0) -> np.random.Generator:
    """Make a NumPy generator (Philox4x64) keyed with all 128 bits of the draw's name.

    >>> numpy_generator(1, "cohort", round=3).integers(100, size=4)
    array([60, 67, 57, 48])
    >>> numpy_generator(1, "cohort", round=3).integers(100, size=4)  # the same name, the same draws
    array([60, 67, 57, 48])
    """
    key = int.from_bytes(digest(seed, purpose, round, client), "little")
    return np.random.Generator(np.random.Philox(key=key))


def integer(seed: int, purpose: Purpose, round: int = 0, client: int = 0) -> int:
    """Return a 63-bit integer, named like a draw, for libraries that want a seed."""
    return int.from_bytes(digest(seed, purpose, round, client)[:8], "little") >> 1


def torch_generator(
    seed: int, purpose: Purpose, round: int = 0, client: int = 0, device: str | torch.device = "cpu"
) -> torch.Generator:
    """Make a torch generator seeded with 63 bits of the draw's name.

    torch's CPU generator keeps only the low 32 bits of its seed: use it for a few draws a round, not for
    one generator per client.

    >>> torch.rand(2, generator=torch_generator(1, "noise", round=3))
    tensor([0.2424, 0.2113])
    """
    return torch.Generator(device=device).manual_seed(integer(seed, purpose, round, client))


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Map four 32-bit counter words and two key words to four random 32-bit words (Philox4x32-10).

    Args:
        counter: four int64 arrays or tensors, broadcastable to one shape, values in [0, 2**32).
        key: two integers in [0, 2**32).

    Returns:
        Four int64 arrays of the common shape, values in [0, 2**32).  Works under ``torch.func.vmap``.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The 64-bit product wraps as two's complement; masking after the shift restores the high word.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _LOW32) ^ c1 ^ k0,
            p1 & _LOW32,
            ((p0 >> 32) & _LOW32) ^ c3 ^ k1,
            p0 & _LOW32,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW32, (k1 + _WEYL[1]) & _LOW32
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Stream:
    """Draws for many clients at once, each keyed by (seed, purpose, round, client).

    The 64-bit Philox key is a hash of (seed, purpose, round); the counter is (position, turn, client key),
    where ``turn`` in [0, 2**32) says which of a client's draws it is (its epoch, its step...).

    Args:
        seed: the run's seed.
        purpose: the purpose of the draws.
        round: round number.
        page: number of another stream of this name, for more turns than one has.
    """

    seed: int
    purpose: Purpose
    round: int
    page: int = 0

    @cached_property
    def _key(self) -> tuple[int, int]:
        name = digest(self.seed, self.purpose, self.round, self.page)
        return int.from_bytes(name[:4], "little"), int.from_bytes(name[4:8], "little")

    def uniform(
        self, clients: Tensor, turn: Tensor, count: int, before: int = 0, place: Tensor | None = None
    ) -> Tensor:
        """Draw uniformly from [0, 1) with 24 bits: float32 ``[*clients.shape, count]`` on the clients' device.

        Args:
            clients: int64 client keys, any shape.
            turn: int64, of the same shape.
            count: the number of draws for each client.
            before: the number of its draws that come before these.
            place: int64, the number of as many draws, rounded up to four, that come before these as well.
        """
        first, skipped = divmod(before, 4)
        positions = torch.arange(first, (before + count + 3) // 4, device=clients.device)
        if place is not None:
            positions = positions + place.to(clients.device) * ((count + 3) // 4)
        client, turn = clients.unsqueeze(-1), turn.unsqueeze(-1)
        words = philox((positions + 0 * client, turn, client & _LOW32, (client >> 32) & _LOW32), self._key)
        return (torch.stack(words, dim=-1).flatten(-2)[..., skipped : skipped + count] >> 8).to(
            torch.float32
        ) * 2.0**-24

    def permutations(self, clients: NDArray[np.int64], sizes: NDArray[np.int64], turn: int) -> NDArray[np.int64]:
        """Draw a uniformly random order of each client's examples.

        Args:
            clients: client keys, ``[C]``.
            sizes: number of examples of each, ``[C]``.
            turn: the epoch.

        Returns:
            ``[C, max(sizes)]``; row ``c`` starts with a permutation of ``range(sizes[c])``, the rest is padding
            (the positions from ``sizes[c]`` on).  A row does not depend on the other rows.
        """
        longest = int(sizes.max())
        positions = np.arange((longest + 1) // 2)[None, :]
        client = clients[:, None]
        counter = (positions, np.full_like(client, turn), client & _LOW32, (client >> 32) & _LOW32)
        high0, low0, high1, low1 = philox(counter, self._key)
        keys = np.empty((len(clients), 2 * positions.shape[1]), dtype=np.int64)
        # 62 bits: a tie, broken by position, has probability below 1e-12 for a thousand examples.
        keys[:, 0::2], keys[:, 1::2] = (high0 << 30) ^ low0, (high1 << 30) ^ low1
        keys[np.arange(keys.shape[1]) >= sizes[:, None]] = np.iinfo(np.int64).max
        return np.argsort(keys[:, :longest], axis=1, kind="stable")

    def coins(
        self,
        clients: NDArray[np.int64],
        sizes: NDArray[np.int64],
        turns: NDArray[np.int64],
        rates: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Draw coins for each client's examples, True at its rate to 62 bits: bool ``[C, T, max(sizes)]``.

        Behind a client's examples all are False; a row does not depend on the other rows, nor on other turns.

        Args:
            clients: client keys, ``[C]``.
            sizes: number of examples of each, ``[C]``.
            turns: the numbers of the draws, ``[T]``.
            rates: of each, ``[C]``, in [0, 1].
        """
        longest = int(sizes.max())
        positions = np.arange((longest + 1) // 2)
        client, rate = clients[:, None, None], rates[:, None, None]
        found = np.empty((len(clients), len(turns), 2 * len(positions)), dtype=np.bool_)
        # As many turns at once as have their words in the cache.
        step = max(1, _NEAR // max(1, len(clients) * len(positions)))
        for start in range(0, len(turns), step):
            some = slice(start, start + step)
            counter = (positions, turns[some, None] + 0 * client, client & _LOW32, (client >> 32) & _LOW32)
            high0, low0, high1, low1 = philox(counter, self._key)
            found[:, some, 0::2] = ((high0 << 30) ^ low0) * 2.0**-62 < rate
            found[:, some, 1::2] = ((high1 << 30) ^ low1) * 2.0**-62 < rate
        found &= np.arange(found.shape[2]) < sizes[:, None, None]
        return found[:, :, :longest]
