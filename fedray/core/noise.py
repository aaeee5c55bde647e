"""Noise for privacy: normal draws from a cryptographic stream, by keys that a run forgets.

The generators of :mod:`fedray.core.rng` are named by the run's seed, which stands in its config: who has that draws the
same noise again and takes it off.  Here a round's key comes from the operating system, or from the key of the round
before by a hash that nobody can turn round; once the round is over, it is forgotten.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.core.rng import digest

Source = Literal["secure", "seeded"]
"""The origin of the keys: the operating system, or the run's seed, which is no privacy."""

KEY_BYTES, PLACE_BYTES = 32, 16

_PIECE = 1 << 14
"""The numbers that are drawn at once, which stay in the cache."""

_ID = 24
"""The hexadecimal digits of the id of a client's release."""

_MOST_BYTES = 1 << 29
"""The bytes that a cipher is given at once."""

_WITHIN = 2.0**-63 * (1.0 - 2.0**-53)
"""The factor that makes numbers in (-1, 1) of whole ones of 64 bits with a sign: none of them becomes 1."""

METHOD = "AES-256, inversion"
"""The name of the draws, of which keys are made: what an older fedray released with other noise by the same key would
else be taken for the same release, and both noises would be made of the same words."""


def derived(key: bytes, *words: str) -> bytes:
    """Return a key for one use, of which nobody learns the key that it is made of, nor those for other uses."""
    return hmac.digest(key, "\0".join(words).encode(), "sha256")


class NoiseKeys:
    """The chain of the keys of rounds: each but the first is a hash of the one before, then forgotten.

    >>> keys = NoiseKeys(seed=1, key=bytes(32))
    >>> first = keys.of("secure", round=1)
    >>> keys.of("secure", round=2) == first, keys.round
    (False, 2)
    >>> keys.of("secure", round=1)
    Traceback (most recent call last):
    ...
    RuntimeError: the key of round 1 is forgotten: this is round 2
    >>> keys.of("seeded", round=1) == NoiseKeys(seed=1).of("seeded", round=1)
    True

    Args:
        seed: the run's seed, which names the keys of ``seeded`` noise.
        key: the key of ``round``, 32 bytes; default: from the operating system.
        round: the next round.
        memory: the vectors of earlier rounds that noise which is correlated between rounds is made of, by name, as
            secret as the key.
    """

    def __init__(
        self,
        seed: int,
        key: bytes | None = None,
        round: int = 1,
        memory: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> None:
        self._seed, self.round = seed, round
        self.key = os.urandom(KEY_BYTES) if key is None else key
        self.memory: dict[str, NDArray[np.float64]] = dict(memory or {})

    def forget(self, round: int) -> None:
        """Forget the keys of all rounds before ``round``."""
        while self.round < round:
            self.key, self.round = derived(self.key, "next"), self.round + 1

    def of(self, source: Source, round: int) -> bytes:
        """Return the key of a round; RuntimeError if it is forgotten."""
        if source == "seeded":
            return derived(digest(self._seed, "noise", round), "seeded")
        self.forget(round)
        if self.round > round:
            raise RuntimeError(f"the key of round {round} is forgotten: this is round {self.round}")
        return self.key


class Stream:
    """Independent standard normal draws, one after the other, from a key that is for this stream alone.

    Words of 64 bits are the keystream of AES-256 in counter mode (NIST SP 800-38A).  A word, as a whole number w in
    [-2^63, 2^63), is a draw by inversion in float64, ``sqrt(2) erfinv(w 2^-63 (1 - 2^-53))``, the
    inverse of the normal distribution at a uniform number.  Draws go up to 8.29 standard deviations, beyond which one
    of 10^16 is.  Float64 is no real number: docs/privacy.md says what that means.

    >>> stream = Stream(bytes(32))
    >>> stream.draw(2)
    array([-1.78352358, -1.9135329 ])
    >>> Stream(bytes(32)).draw(4)[2:] == stream.draw(2)
    array([ True,  True])

    Args:
        key: 32 bytes.

    Raises:
        ConfigError: the package ``cryptography`` is not installed.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = _cipher()(key)

    def draw(self, count: int) -> NDArray[np.float64]:
        """Return the next ``count`` draws, float64 ``[count]``."""
        found = np.empty(count)
        self.fill(found)
        normal_(found)
        return found

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next ``count`` words of 64 uniform bits, uint64 ``[count]``."""
        found = np.empty(count)
        self.fill(found)
        return found.view("<u8").astype(np.uint64, copy=False)

    def fill(self, words: NDArray[np.float64]) -> None:
        """Put the next words of the stream into the memory of numbers ``[k]``, for :func:`normal_`."""
        memory = words.view(np.uint8)
        # What the cipher makes of zeros is its keystream.
        memory.fill(0)
        for start in range(0, len(memory), _MOST_BYTES):
            piece = memory[start : start + _MOST_BYTES]
            self._cipher.update_into(piece, piece)

    def at(self, place: bytes) -> Stream:
        """Go to a place of the keystream, and return the stream.

        Args:
            place: the counter of its next block, 16 bytes; streams of one key at places drawn at random do not meet:
                of a million with 10^9 words each, with a probability of 10^-17.
        """
        self._cipher.reset_nonce(place)
        return self


def normal_(words: NDArray[np.float64], deviation: float = 1.0) -> None:
    """Turn words of streams, in the memory of numbers ``[k]``, into normal draws of a deviation in place, each alone.

    >>> words = np.array([0, 2**62, -(2**62)], dtype="<i8").view(np.float64)
    >>> normal_(words, deviation=2.0)
    >>> words.round(3)
    array([ 0.   ,  1.349, -1.349])
    """
    for start in range(0, len(words), _PIECE):
        piece = words[start : start + _PIECE]
        np.multiply(piece.view(np.int64), _WITHIN, out=piece)
        torch.from_numpy(piece).erfinv_()
        piece *= math.sqrt(2.0) * deviation


def check_installed() -> None:
    """Raise ConfigError where the package ``cryptography``, whose AES the noise is made of, is missing."""
    _cipher()


@cache
def _cipher() -> Callable[[bytes], Any]:
    """Return what makes the cipher of a key, from the beginning of its keystream on."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise ConfigError(
            "privacy: noise that nobody can draw again is made of the AES of the package cryptography, which is not "
            "installed: pip install 'fedray[dp]'"
        ) from None

    # The counter may begin at 0 for all, as no two streams have the same key.
    mode = modes.CTR(bytes(16))
    return lambda key: Cipher(algorithms.AES(key), mode).encryptor()


@dataclass(frozen=True)
class Normals:
    """Independent standard normal draws, by names: each name has a :class:`Stream` of its own.

    >>> Normals(bytes(32)).draw("delta", 4)
    array([ 0.77034154,  0.34736999, -0.94145629,  0.81055407])

    Args:
        key: 32 bytes.
    """

    key: bytes = field(repr=False)

    def draw(self, name: str, count: int) -> NDArray[np.float64]:
        """Return ``count`` draws, float64 ``[count]``: the same for the same name, which is for one use alone."""
        return Stream(derived(self.key, "draw", name)).draw(count)


@dataclass(frozen=True)
class ClientNoise:
    """The noise that clients of a block draw themselves in a round, each by a key that is made for it alone.

    >>> noise = ClientNoise(bytes(32), np.array([4, 7]))
    >>> (id, stream), (other, _) = (noise.of(place, np.ones(3)) for place in range(2))
    >>> id == other, id == noise.of(0, np.ones(3))[0], id == noise.of(0, np.zeros(3))[0]
    (False, True, False)
    >>> stream.draw(2)
    array([-0.45997595, -0.18086782])

    Args:
        key: of the round, for clients, 32 bytes.
        names: those of the clients in draws, ``[C]``.
    """

    key: bytes = field(repr=False)
    names: NDArray[np.int64]

    def of(self, place: int, content: NDArray[np.float64]) -> tuple[str, Stream]:
        """Return the id of a client's release, and the draws for it.

        They depend on what is released, as those of :meth:`Noise.of`: a block that is done again as it was repeats its
        noise and is the same release, and any other content has noise of its own.

        Args:
            place: the client's, in the block.
            content: the values before the noise.
        """
        own = derived(self.key, "client", str(int(self.names[place])))
        said = np.ascontiguousarray(content, dtype="<f8").data
        id = hmac.digest(derived(own, "release", METHOD), said, "sha256").hex()
        return id[:_ID], Stream(derived(own, "noise", id))


Journal = Callable[[int, str, Any], None]
"""(round, id of the release, what it costs) to where releases are written down, before they are made."""


def unwritten(round: int, release: str, cost: Any) -> None:
    """Write nothing down: the journal of who accounts for nothing."""


@dataclass(frozen=True)
class Noise:
    """The noise of one part of a run in one round.

    Args:
        key: of the round.
        round: its number.
        part: the part's number, as :class:`fedray.core.now.Now` has it.
        journal: the place where releases are written down.
        memory: the vectors of earlier rounds, by name, of which noise that is correlated between rounds is made.
    """

    key: bytes = field(repr=False)
    round: int = 1
    part: int = 0
    journal: Journal = field(default=unwritten, repr=False)
    memory: MutableMapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def of(self, released: Mapping[str, NDArray[np.float64]], cost: Any = None) -> Normals:
        """Write a release down, and return the draws for it.

        The draws depend on what is released: the same again, after a kill, has the same noise and is the same release;
        anything else, as other clients have failed, has noise of its own and is another one.  The id tells of what is
        released only to who has the key.

        Args:
            released: the values before the noise, by name.
            cost: for the journal; None: nothing is written down.
        """
        own = derived(self.key, "part", str(self.part))
        # The id names the stream: what an older fedray released with other noise is not the same release.
        content = hmac.new(derived(own, "release", METHOD), digestmod="sha256")
        for name, values in sorted(released.items()):
            content.update(f"{name}[{len(values)}]".encode())
            content.update(np.ascontiguousarray(values, dtype="<f8").data)
        if cost is not None:
            self.journal(self.round, content.hexdigest(), cost)
        return Normals(derived(own, "noise", content.hexdigest()))
