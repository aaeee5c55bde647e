"""Masks that cancel in the sum, and the shares by which those of lost clients are taken off.

Double masking of Bonawitz et al. (eprint 2017/281, figure 4): client u sends

    y_u = x_u + PRG(b_u) + sum_{v in N(u), v > u} PRG(s_uv) - sum_{v in N(u), v < u} PRG(s_uv)   modulo 2^R.

``s_uv`` follows from the X25519 keys of u and v; ``b_u`` is u's own.  Of a client whose y_u arrived, the others give
shares of b_u, of one that was lost shares of its private key, and of nobody both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.core.rng import digest
from fedray.transforms.secure.graph import Graph, degree, least_of
from fedray.transforms.secure.shamir import Shared, recovered

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

PUBLIC_BYTES = 32


class TooFew(Exception):
    """The error of a sum that cannot be opened, in one line; nothing of it is released."""


def check_installed() -> None:
    """Raise ConfigError where the package ``cryptography`` is missing."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError(
            "secure_sum: keys and masks are those of the package cryptography, which is not installed: "
            "pip install 'fedray[secure]'"
        ) from None


@lru_cache(maxsize=1)
def _parts() -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import x25519
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return x25519, Cipher, algorithms, modes, HKDF, hashes


def expanded(key: bytes, count: int, bits: int) -> Ints:
    """Return ``count`` numbers, uniform modulo 2**bits, int64 by their bits: the key stream of AES-256 in counter mode.

    Args:
        key: 32 bytes, for this use alone, as the counter begins at 0.
        count: n.
        bits: R, from 1 to 64.
    """
    return wrapped(_stream(key, count, bits).astype(np.uint64), bits).view(np.int64)


def _word(bits: int) -> type[np.unsignedinteger[Any]]:
    """Return the whole numbers in which sums modulo 2**bits are taken: those of 32 bits, where they are enough."""
    return np.uint32 if bits <= 32 else np.uint64


def _stream(key: bytes, count: int, bits: int) -> NDArray[np.unsignedinteger[Any]]:
    """Return the numbers of :func:`expanded` before they are taken modulo 2**bits."""
    _, Cipher, algorithms, modes, _, _ = _parts()
    word = np.dtype(_word(bits)).newbyteorder("<")
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(cipher.update(bytes(count * word.itemsize)), word)


def private_key(secret: bytes) -> X25519PrivateKey:
    """Return the X25519 key of a secret of 32 bytes; to make one takes as long as to agree by it."""
    key: X25519PrivateKey = _parts()[0].X25519PrivateKey.from_private_bytes(secret)
    return key


def agreed(private: X25519PrivateKey, public: X25519PublicKey, info: bytes) -> bytes:
    """Return the key, 32 bytes, that two agree on: HKDF-SHA256 of their X25519 secret.

    Args:
        private: the key of one.
        public: the key of the other.
        info: the use that the key is bound to.
    """
    _, _, _, _, HKDF, hashes = _parts()
    key: bytes = HKDF(hashes.SHA256(), 32, None, info).derive(private.exchange(public))
    return key


def wrapped(numbers: NDArray[Any], bits: int) -> NDArray[np.uint64]:
    """Return whole numbers modulo 2**bits, in [0, 2**bits)."""
    return numbers.view(np.uint64) & np.uint64((1 << bits) - 1)


def centred(numbers: Ints, bits: int) -> Ints:
    """Return the numbers of [-2**(bits-1), 2**(bits-1)) that are ``numbers`` modulo 2**bits."""
    shift = np.uint64(64 - bits)
    found: Ints = (numbers.view(np.uint64) << shift).view(np.int64) >> np.int64(64 - bits)
    return found


@dataclass(frozen=True, eq=False)
class Parties:
    """The clients of a round, with their secrets, which are named draws: (seed, mask, round, client).

    In life each client draws its own from its operating system.  Here they follow from the run's seed, so that a block
    that is done again, on whichever worker, is masked with the same bits; who has the seed can take all masks off.

    Args:
        seed: the run's seed.
        round: round number.
        graph: of those whose keys and shares arrived.
        bits: R.
        threshold: the number of clients without which no sum is opened.
    """

    seed: int
    round: int
    graph: Graph
    bits: int
    threshold: int
    _agreed: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)
    _keys: dict[bytes, X25519PrivateKey] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        seed: int,
        round: int,
        cohort: Ints,
        bits: int,
        threshold: float,
        corrupt: float = 0.2,
        sharing: Collection[int] | None = None,
    ) -> Parties:
        """Return the parties of a cohort.

        Args:
            seed: the run's seed.
            round: round number.
            cohort: client indices ``[n]``.
            bits: R.
            threshold: the share of the cohort that must be left at each stage.
            corrupt: the share of it that may work with the server.
            sharing: those whose keys and shares arrived; default: all.

        Raises:
            TooFew: too few are left after the keys and shares.
        """
        there = cohort if sharing is None else np.array(sorted(sharing), dtype=np.int64)
        least = least_of(len(cohort), threshold)
        _check(len(there), len(cohort), least, "sent keys and shares")
        # The shares' threshold is that of the whole cohort, whoever of it was lost on the way.
        shape = degree(len(cohort), threshold, corrupt)
        return cls(seed, round, Graph.of(there, seed, round, shape), bits, least)

    def _secret(self, client: int, purpose: str) -> bytes:
        name = digest(self.seed, "mask", self.round, client + 1)
        return hashlib.shake_256(name + purpose.encode()).digest(32)

    # The clients' side

    def _private(self, client: int) -> bytes:
        return self._secret(client, "key")

    @cached_property
    def _publics(self) -> Mapping[int, X25519PublicKey]:
        return {client: self._key(self._private(client)).public_key() for client in self.graph.ring}

    def _key(self, private: bytes) -> X25519PrivateKey:
        if private not in self._keys:
            self._keys[private] = private_key(private)
        return self._keys[private]

    def _pair(self, one: int, private: bytes, other: int) -> bytes:
        """Return the key that two clients agree on: HKDF-SHA256 of the X25519 secret, bound to round and pair."""
        pair = (min(one, other), max(one, other))
        if pair not in self._agreed:
            info = f"fedray secure_sum {self.round} {pair[0]} {pair[1]}".encode()
            self._agreed[pair] = agreed(self._key(private), self._publics[other], info)
        return self._agreed[pair]

    def masked(self, client: int, values: Ints) -> Ints:
        """Return a client's numbers ``[n]`` with its masks on, in [0, 2**R): to anybody else uniform."""
        found: Ints = values[None].copy()
        self.mask_([client], found)
        one: Ints = found[0]
        return one

    def mask_(self, clients: Sequence[int], values: Ints) -> None:
        """Put masks on the numbers of clients ``[C, n]`` in place, as :meth:`masked` has them.

        A mask that two of them share is expanded once for both.
        """
        places = {client: place for place, client in enumerate(clients)}
        rows, word = values.view(np.uint64), _word(self.bits)
        masks = rows if word is np.uint64 else np.zeros(rows.shape, dtype=word)
        for client, mask in zip(clients, masks, strict=True):
            mask += self._expanded(self._secret(client, "self"), len(mask))
            private = self._private(client)
            for other in self.graph.neighbours(client):
                both = other in places
                if both and other < client:
                    continue  # both get it in the turn of the other
                found = self._expanded(self._pair(client, private, other), len(mask))
                self._put(mask, client, other, found)
                if both:
                    self._put(masks[places[other]], other, client, found)
        if masks is not rows:
            rows += masks
        rows &= np.uint64((1 << self.bits) - 1)

    def _expanded(self, key: bytes, count: int) -> NDArray[np.unsignedinteger[Any]]:
        return _stream(key, count, self.bits)

    @staticmethod
    def _put(
        total: NDArray[np.unsignedinteger[Any]], client: int, other: int, mask: NDArray[np.unsignedinteger[Any]]
    ) -> None:
        """Put a client's mask for another one on, in place."""
        if other > client:
            total += mask
        else:
            total -= mask

    def share(self, of: int, secret: str, holder: int) -> int:
        """Return the share that a neighbour holds of a client's secret: its ``key``, or ``self``, its own mask's."""
        return self._shared(of, secret).share(holder + 1)

    def _shared(self, of: int, secret: str) -> Shared:
        return Shared.of(self._secret(of, secret), self.graph.degree.shares, self._secret(of, f"shares of {secret}"))

    # The server's side

    def unmasked(self, total: Ints, arrived: Collection[int], answering: Collection[int] | None = None) -> Ints:
        """Return the sum ``[n]``, in [-2**(R-1), 2**(R-1)), of the numbers of those whose masked ones arrived.

        Args:
            total: the sum of the masked numbers, modulo 2**64.
            arrived: the clients whose numbers are in it.
            answering: those of them that give shares; default: all.

        Raises:
            TooFew: fewer clients are left than the threshold, or the shares of somebody's secret are too few, or those
                left are in two parts whose sums could be told apart.
        """
        there = {int(client) for client in arrived}
        answers = there if answering is None else there.intersection(int(client) for client in answering)
        _check(len(there), len(self.graph.ring), self.threshold, "sent masked updates")
        _check(len(answers), len(self.graph.ring), self.threshold, "answered with their shares")
        if not self.graph.connects(there):
            raise TooFew("the clients that are left share masks in two groups, whose sums could be told apart")
        masks = np.zeros(len(total), dtype=_word(self.bits))
        for client in there:
            masks += self._expanded(self._recovered(client, "self", answers), len(total))
        for client in set(self.graph.ring) - there:
            beside = [other for other in self.graph.neighbours(client) if other in there]
            private = self._recovered(client, "key", answers) if beside else b""
            for other in beside:
                # What it would have put on: its neighbours' masks meet nothing else.
                found = self._expanded(self._pair(client, private, other), len(total))
                self._put(masks, other, client, found)
        return centred((total.view(np.uint64) - masks).view(np.int64), self.bits)

    def _recovered(self, client: int, secret: str, answers: Collection[int]) -> bytes:
        needed = self.graph.degree.shares
        # A client holds a share of its own secret as well where all share with all, as in the paper.
        near = (client, *self.graph.neighbours(client))
        holders = [other for other in near if other in answers][:needed]
        if len(holders) < needed:
            raise TooFew(
                f"of the {len(near)} clients that hold shares of one client's secret {len(holders)} are left, and its "
                f"masks come off with {needed}"
            )
        whole = self._shared(client, secret)
        return recovered({holder + 1: whole.share(holder + 1) for holder in holders})


def _check(left: int, count: int, least: int, what: str) -> None:
    if left < least:
        raise TooFew(f"{left} of {count} clients {what}, and without {least} nothing is opened")
