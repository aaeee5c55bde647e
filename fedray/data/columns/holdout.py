"""The choice of a client's held-out rows: a function of the seed, the client's key and its number of rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError
from fedray.core.rng import Stream

_TURN = 1
_PADDED_ENTRIES = 1 << 22


def held_sizes(sizes: NDArray[np.int64], fraction: float, already: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of rows that each client holds out, int64 ``[n]``.

    A client of size s gives ``round(fraction * s)`` rows, at least 1 and at most ``s - 1`` if ``s >= 2``, none if
    ``s <= 1``; nobody gives any if ``fraction`` is 0.

    Args:
        sizes: rows of each client, ``[n]``.
        fraction: in [0, 1).
        already: rows that are held out now, ``[n]``.

    Raises:
        ConfigError: fraction out of range, or rows are held out already.
    """
    if not 0.0 <= fraction < 1.0:
        raise ConfigError(f"holdout: must be at least 0 and below 1, got {fraction}")
    if fraction == 0.0:
        return np.zeros_like(sizes)
    if already.any():
        raise ConfigError("holdout: the data has held-out rows already; ask for them once")
    held: NDArray[np.int64] = np.maximum(np.rint(sizes * fraction).astype(np.int64), 1)
    return np.minimum(held, np.maximum(sizes - 1, 0))


def training_first(
    seed: int, keys: NDArray[np.int64], sizes: NDArray[np.int64], held: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the order in which each client's training rows come before its held-out ones; both keep their own order.

    Args:
        seed: the run's seed.
        keys: key of each client, ``[n]``.
        sizes: rows of each client, ``[n]``; the clients' rows lie one after the other.
        held: the number of them that are held out, ``[n]``.

    Returns:
        Indices of the rows, int64 ``[sizes.sum()]``.
    """
    client = np.repeat(np.arange(len(sizes)), sizes)
    return np.argsort(2 * client + held_rows(seed, keys, sizes, held), kind="stable")


def held_rows(
    seed: int, keys: NDArray[np.int64], sizes: NDArray[np.int64], held: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which rows are held out, ``[sizes.sum()]``; arguments are those of :func:`training_first`."""
    starts = np.cumsum(sizes) - sizes
    flags = np.zeros(int(sizes.sum()), dtype=np.bool_)
    stream = Stream(seed, "partition", 0)
    # By size, so that the padded table of permutations stays small whatever the sizes are.
    order = np.argsort(sizes, kind="stable")
    begin = 0
    while begin < len(order):
        step = max(1, _PADDED_ENTRIES // int(sizes[order[-1]]))
        clients = order[begin : begin + step]
        begin += step
        moved = stream.permutations(keys[clients], sizes[clients], _TURN)
        chosen = np.arange(moved.shape[1]) < held[clients][:, None]
        flags[(moved + starts[clients][:, None])[chosen]] = True
    return flags


@dataclass(frozen=True)
class Holdout:
    """The rows of clients that are held out.

    >>> Holdout(0.4, seed=1).rows(np.array([7]), np.array([5]))
    array([ True, False, False,  True, False])

    Args:
        fraction: of each client's rows, in [0, 1), see :func:`held_sizes`.
        seed: decides which.
    """

    fraction: float = 0.0
    seed: int = 0

    def rows(self, keys: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows are held out, ``[sizes.sum()]``, of clients whose rows lie one after the other.

        Args:
            keys: key of each client, ``[n]``.
            sizes: rows of each client, ``[n]``.
        """
        held = held_sizes(sizes, self.fraction, np.zeros_like(sizes))
        if not held.any():
            return np.zeros(int(sizes.sum()), dtype=np.bool_)
        return held_rows(self.seed, keys, sizes, held)


NOTHING = Holdout()
"""Nothing is held out."""
