"""Shamir's secret sharing (CACM 1979): any ``t`` of the shares give the secret, fewer tell nothing of it."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PRIME = 2**256 + 297
"""The modulus: the least prime above all secrets of 32 bytes."""

SECRET_BYTES = 32
SHARE_BYTES = 33

_DRAWN = 48
"""Bytes of a coefficient's draw: taken modulo PRIME they are uniform up to 2**-127."""


@dataclass(frozen=True)
class Shared:
    """A secret as the constant of a polynomial over the numbers modulo PRIME; its values are the shares.

    >>> whole = Shared.of(b"k" * 32, threshold=2, draws=b"a seed of its own")
    >>> shares = {place: whole.share(place) for place in (1, 2, 3)}
    >>> recovered({place: shares[place] for place in (3, 1)}) == b"k" * 32
    True

    Args:
        coefficients: from that of degree 0, which is the secret, on.
    """

    coefficients: Sequence[int] = field(repr=False)

    @classmethod
    def of(cls, secret: bytes, threshold: int, draws: bytes) -> Shared:
        """Share a secret so that ``threshold`` shares are needed.

        Args:
            secret: 32 bytes.
            threshold: t, at least 1.
            draws: a secret seed of at least 128 bits, for this use alone: the other coefficients are its SHAKE-256.

        Raises:
            ValueError: a secret of another length, or no threshold.
        """
        if len(secret) != SECRET_BYTES or threshold < 1:
            raise ValueError(f"a secret of {len(secret)} bytes, threshold {threshold}: it takes 32 bytes, and 1")
        stream = hashlib.shake_256(draws).digest(_DRAWN * (threshold - 1))
        pieces = (stream[start : start + _DRAWN] for start in range(0, len(stream), _DRAWN))
        rest = [int.from_bytes(piece, "little") % PRIME for piece in pieces]
        return cls([int.from_bytes(secret, "little"), *rest])

    def share(self, place: int) -> int:
        """Return the share of a place, which is above 0 and below PRIME.

        Raises:
            ValueError: place 0, where the secret itself is.
        """
        if not 0 < place < PRIME:
            raise ValueError(f"place {place}: shares are at places above 0")
        value = 0
        # Without a division each time: places are small, so that numbers grow slowly.
        for coefficient in reversed(self.coefficients):
            value = value * place + coefficient
        return value % PRIME


def recovered(shares: Mapping[int, int]) -> bytes:
    """Return the secret from as many shares as its threshold, by Lagrange's interpolation at 0.

    From fewer it returns something else, or fails.

    Args:
        shares: by their places.

    Raises:
        ValueError: they give no secret of 32 bytes, as they are too few, or do not belong together.
    """
    whole = math.prod(shares)
    # The share of a place counts whole / below.
    below = [place * math.prod(other - place for other in shares if other != place) for place in shares]
    terms = zip(shares.values(), _inverses(below), strict=True)
    secret = sum(share * inverse % PRIME for share, inverse in terms) * whole % PRIME
    if secret >= 1 << 8 * SECRET_BYTES:
        raise ValueError("the shares give no secret: they are too few, or not of one secret")
    return secret.to_bytes(SECRET_BYTES, "little")


def _inverses(numbers: Sequence[int]) -> list[int]:
    """Return the inverses modulo PRIME of numbers that it does not divide, of which one costs a hundred products."""
    before = [1, *itertools.accumulate(numbers, lambda one, other: one * other % PRIME)]
    left, found = pow(before.pop(), -1, PRIME), list[int]()
    for number, product in zip(reversed(numbers), reversed(before), strict=True):
        found.append(left * product % PRIME)
        left = left * number % PRIME
    return found[::-1]
