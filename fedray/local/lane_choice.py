"""The choice of lanes: by operations that are counted, so that it is the same on every machine."""

from __future__ import annotations

import math

from fedray.local.operations import Products

SMALL_STEP = 1 << 26
"""The multiplications of one client's step below which the cost of calling kernels is worth sharing in any case."""

READS = 160
"""The multiplications of one client's step for each weight below which reading the weights is worth sharing.

On a CPU that is what a large base costs where a client has few rows; of more rows, those of several clients leave the
caches that those of one stay in.
"""

LARGEST_TRAINED = 1 << 20
"""The trained parameters above which what is each client's own is most of a step."""

STEP = 1 << 27
"""The multiplications of a step of all clients in which the cost of calling kernels no longer shows."""

LARGEST = 32
"""The most clients of a block."""

OWN_BYTES = 64 << 20
"""The most bytes of the trained parameters of a block."""


def mostly_frozen(counted: Products) -> bool:
    """Tell if most multiplications are with frozen weights, which clients in lanes have in common.

    >>> mostly_frozen(Products(trained=10, frozen=30, weights=40)), mostly_frozen(Products(trained=10))
    (True, False)
    """
    return counted.frozen > counted.trained


def unworthy(counted: Products, batch: int, trained: int) -> str | None:
    """Return why lanes do not pay on a CPU; None: they do.

    >>> large = Products(trained=0.5e6, frozen=21e6 * 64, weights=21_000_000)  # sequences of 64
    >>> unworthy(large, 1, 500_000), unworthy(large, 8, 500_000)
    (None, 'a step multiplies each weight 512 times: above 160 lanes do not pay on a cpu')

    Args:
        counted: of a forward for one example.
        batch: examples in a step of the median client.
        trained: D.
    """
    if trained > LARGEST_TRAINED:
        return f"{trained:,} parameters train: above {LARGEST_TRAINED:,} lanes do not pay on a cpu"
    each = (counted.trained + counted.frozen) * batch
    reads = each / max(1, counted.weights)
    if each > SMALL_STEP and reads > READS:
        return f"a step multiplies each weight {reads:.0f} times: above {READS} lanes do not pay on a cpu"
    return None


def lanes_size(counted: Products, batch: int, trained: int, cohort: float) -> int:
    """Return the clients of a block in lanes: so many that calls no longer show, and weights are read for all.

    >>> lanes_size(Products(trained=9e3, frozen=300e3, weights=40_000), 4, 4_000, cohort=100)
    32

    Args:
        counted: of a forward for one example.
        batch: examples in a step of the median client.
        trained: D.
        cohort: the expected cohort; a block is at most half of it.
    """
    each = max(1.0, (counted.trained + counted.frozen) * batch)
    reads = max(1.0, each / max(1, counted.weights))
    worth = max(math.ceil(STEP / each), round(4 * READS / reads) if mostly_frozen(counted) else 1)
    return max(1, min(worth, LARGEST, OWN_BYTES // (4 * trained), math.ceil(cohort / 2)))


def number_of(wanted: str) -> int | None:
    """Return the clients of a block that ``lanes:8`` asks for; None: by :func:`lanes_size`.

    >>> number_of("lanes:8"), number_of("lanes")
    (8, None)
    """
    _, _, number = wanted.partition(":")
    return int(number) if number else None
