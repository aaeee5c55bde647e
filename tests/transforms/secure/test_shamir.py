"""Shamir's shares: any t of them give the secret, fewer tell nothing of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from Crypto.Protocol.SecretSharing import Shamir
from hypothesis import given
from hypothesis import strategies as st

from fedray.transforms.secure.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, Shared, recovered


def test_the_modulus_is_prime_and_the_first_above_all_secrets() -> None:
    def passes(number: int) -> bool:  # Fermat's test, which no composite number of this search passes for all bases
        return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11))

    assert passes(PRIME)
    assert not any(passes(number) for number in range(2**256 + 1, PRIME, 2))
    assert PRIME < 1 << 8 * SHARE_BYTES


@given(
    secret=st.binary(min_size=32, max_size=32),
    places=st.lists(st.integers(1, 10**6), min_size=1, max_size=9, unique=True),
    data=st.data(),
)
def test_any_shares_enough_give_the_secret(secret: bytes, places: list[int], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, len(places)))
    whole = Shared.of(secret, threshold, b"draws")
    chosen = data.draw(st.permutations(places))[:threshold]
    assert recovered({place: whole.share(place) for place in chosen}) == secret


def test_every_secret_fits_what_too_few_have_seen() -> None:
    """The polynomial through two shares and any secret exists: so they rule nothing out."""
    whole = Shared.of(b"s" * 32, 3, b"draws")
    seen = {place: whole.share(place) for place in (2, 5)}
    for other in (b"t" * 32, bytes(32)):
        # Lagrange through (0, other) and the seen shares gives a third one that fits with them.
        third = 7
        value = 0
        points = {0: int.from_bytes(other, "little"), **seen}
        for place, share in points.items():
            factor = 1
            for another in points:
                if another != place:
                    factor = factor * (third - another) * pow(place - another, -1, PRIME) % PRIME
            value += share * factor
        assert recovered({**seen, third: value % PRIME}) == other


def test_shares_are_spread_over_all_numbers() -> None:
    shares = [Shared.of(bytes(32), 2, str(number).encode()).share(1) / PRIME for number in range(2000)]
    assert np.std(shares) == pytest.approx(12**-0.5, abs=0.01)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_as_many_are_needed_as_of_another_implementation() -> None:
    """Those of pycryptodome are over GF(2^128), so that shares differ and what they do does not."""
    secret = b"0123456789abcdef"
    theirs = dict(Shamir.split(3, 5, secret, ssss=False))
    whole = Shared.of(secret * 2, 3, b"draws")
    for chosen in itertools.combinations(range(1, 6), 3):
        assert Shamir.combine([(place, theirs[place]) for place in chosen], ssss=False) == secret
        assert recovered({place: whole.share(place) for place in chosen}) == secret * 2
    for few in itertools.combinations(range(1, 6), 2):
        assert Shamir.combine([(place, theirs[place]) for place in few], ssss=False) != secret
        assert _combined(whole, few) != secret * 2


def _combined(whole: Shared, chosen: tuple[int, ...]) -> bytes | None:
    try:
        return recovered({place: whole.share(place) for place in chosen})
    except ValueError:  # a number that no secret is: one of 2**248
        return None


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Shared.of(b"short", 2, b"draws")
    with pytest.raises(ValueError, match="32 bytes, and 1"):
        Shared.of(bytes(SECRET_BYTES), 0, b"draws")
    with pytest.raises(ValueError, match="above 0"):
        Shared.of(bytes(SECRET_BYTES), 2, b"draws").share(0)
