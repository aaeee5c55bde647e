"""Noise for privacy: normal draws from a cryptographic stream, by keys that a run forgets.

The generators of :mod:`fedray.core.rng` are named by the run's seed, which stands in its config: who has that draws the
same noise again and takes it off.  Here a round's key comes from the operating system, or from the key of the round
before by a hash that nobody can turn round; once the round is over, it is forgotten.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.core.rng import digest

Source = Literal["secure", "seeded"]
"""The origin of the keys: the operating system, or the run's seed, which is no privacy."""

KEY_BYTES = 32
_PAIRS = 1 << 15


def _derived(key: bytes, *words: str) -> bytes:
    """Return a key for one use, of which nobody learns the key that it is made of, nor those for other uses."""
    return hmac.digest(key, b"\0".join(word.encode() for word in words), "sha256")


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
            self.key, self.round = _derived(self.key, "next"), self.round + 1

    def of(self, source: Source, round: int) -> bytes:
        """Return the key of a round; RuntimeError if it is forgotten."""
        if source == "seeded":
            return _derived(digest(self._seed, "noise", round), "seeded")
        self.forget(round)
        if self.round > round:
            raise RuntimeError(f"the key of round {round} is forgotten: this is round {self.round}")
        return self.key


@dataclass(frozen=True)
class Normals:
    """Independent standard normal draws, by names.

    Words of 64 bits are those of SHAKE-256 (FIPS 202) of the key, a name and a counter; two of them, as uniform numbers
    of 53 bits in (0, 1], are two draws by Box and Muller's transform in float64, which go up to 8.57 standard
    deviations, beyond which one draw of 10^17 is.  Float64 is no real number: docs/privacy.md says what that means.

    >>> Normals(bytes(32)).draw("delta", 4)
    array([-0.33380238, -1.19976631,  0.61651504, -0.2586824 ])

    Args:
        key: 32 bytes.
    """

    key: bytes = field(repr=False)

    def draw(self, name: str, count: int) -> NDArray[np.float64]:
        """Return ``count`` draws, float64 ``[count]``: the same for the same name, which is for one use alone."""
        key, found = _derived(self.key, "draw", name), np.empty(count + count % 2)
        for start in range(0, len(found) // 2, _PAIRS):
            pairs = min(_PAIRS, len(found) // 2 - start)
            stream = hashlib.shake_256(key + start.to_bytes(8, "little")).digest(16 * pairs)
            unit = ((np.frombuffer(stream, dtype="<u8") >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
            radius, angle = np.sqrt(-2.0 * np.log(unit[0::2])), 2.0 * np.pi * unit[1::2]
            piece = found[2 * start : 2 * (start + pairs)]
            piece[0::2], piece[1::2] = radius * np.cos(angle), radius * np.sin(angle)
        return found[:count]


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
        own = _derived(self.key, "part", str(self.part))
        content = hmac.new(_derived(own, "release"), digestmod="sha256")
        for name, values in sorted(released.items()):
            content.update(f"{name}[{len(values)}]".encode())
            content.update(np.ascontiguousarray(values, dtype="<f8").data)
        if cost is not None:
            self.journal(self.round, content.hexdigest(), cost)
        return Normals(_derived(own, "noise", content.hexdigest()))
