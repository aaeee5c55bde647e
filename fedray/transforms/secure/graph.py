"""The graph of clients that share masks: all with all, or in large cohorts a random regular one."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from fedray.core.messages import Floats, Ints
from fedray.core.rng import numpy_generator

SPARSE_FROM = 64
"""The number of clients from which not all share masks with all."""

SECURITY, CORRECTNESS = 40, 20
"""Bits: a graph fails to hide with a probability below 2**-40, and to recover all masks below 2**-20."""

_SLACK = 1e-9


def least_of(count: int, threshold: float) -> int:
    """Return the number of clients of ``count`` that must be left: ``ceil(threshold count)``, and two at least.

    The sum of one would be its update.
    """
    return max(2, math.ceil(threshold * count - _SLACK))


@dataclass(frozen=True)
class Degree:
    """The number of neighbours of each client, and how many of them recover its masks.

    Args:
        neighbours: k; all others, or an even number.
        shares: t, the threshold of the shares.
    """

    neighbours: int
    shares: int


@lru_cache(maxsize=4096)
def degree(count: int, threshold: float, corrupt: float) -> Degree:
    """Return the degree of the graph of ``count`` clients.

    Below 64 clients all share masks with all, and ``t = ceil(threshold count)``.  From there it is a Harary graph of
    the smallest even k that a random order of the clients makes secure and correct (SecAgg+, Bell et al., eprint
    2020/704, section 3; in the numbers of its authors' code, which takes exact tails where the paper has bounds), with
    ``g = floor(corrupt n)`` clients that work with the server and ``d = floor((1 - threshold) n)`` that drop out:

    * the graph of the others stays connected: two gaps of k/2 neighbours have a probability of at most
      ``n (n-k-1)/2 * C(n-k, g+d-k) / C(n, g+d) <= 2^-41``;
    * nobody's secrets are open to the server: ``P[Hypergeometric(n, g, k) >= t] <= 2^-41 / n``;
    * everybody's masks can be taken off: ``P[Hypergeometric(n, n-d, k) < t] <= 2^-20 / n``.

    t is the least that the second allows.  Where no k below n - 1 does, all share masks with all.

    >>> degree(20, 0.7, 0.2), degree(1000, 0.7, 0.2)
    (Degree(neighbours=19, shares=14), Degree(neighbours=140, shares=67))

    Args:
        count: n, at least 2.
        threshold: the share of them that is not to drop out.
        corrupt: the share of them that may work with the server.
    """
    whole = Degree(count - 1, least_of(count, threshold))
    if count < SPARSE_FROM:
        return whole
    corrupted = math.floor(corrupt * count + _SLACK)
    left = math.ceil(threshold * count - _SLACK)
    bad = corrupted + count - left
    for k in range(2, count - 1, 2):
        if not _connected(count, k, bad):
            continue
        neighbours = np.arange(k + 1)
        # Summed from the small ends on: the quantiles of scipy are no good so far out.
        reached = np.cumsum(_chances(neighbours, count, corrupted, k)[::-1])[::-1]
        missed = np.cumsum(_chances(neighbours, count, left, k))
        t = max(2, int((reached > 2.0 ** -(SECURITY + 1) / count).sum()))
        if t <= k and missed[t - 1] <= 2.0**-CORRECTNESS / count:
            return Degree(k, t)
    return whole


def _chances(found: Ints, count: int, marked: int, k: int) -> Floats:
    """Return the probabilities of so many marked clients among k of ``count``: those of scipy, ten times as fast."""
    from scipy.special import gammaln  # most runs need none of it, and it takes a second

    possible = (found <= marked) & (k - found <= count - marked)
    inside = np.where(possible, found, np.clip(found, max(0, k - count + marked), min(k, marked)))

    def choices(whole: int, some: Ints | int) -> Floats:
        return gammaln(whole + 1) - gammaln(np.asarray(some) + 1) - gammaln(whole - np.asarray(some) + 1)

    log = choices(marked, inside) + choices(count - marked, k - inside) - choices(count, k)
    return np.where(possible, np.exp(log), 0.0)


def _connected(count: int, k: int, bad: int) -> bool:
    """Tell if a random Harary graph without ``bad`` of its clients is connected, but for a chance of 2**-41."""
    if k > bad:
        return True
    log = math.log(count) + math.log(count - k - 1) - math.log(2)
    log += math.lgamma(bad + 1) + math.lgamma(count - k + 1) - math.lgamma(count + 1) - math.lgamma(bad - k + 1)
    return log < -(SECURITY + 1) * math.log(2)


@dataclass(frozen=True, eq=False)
class Graph:
    """The neighbours of each client of a cohort, a pure function of seed, round and cohort.

    >>> graph = Graph.of(np.array([3, 5, 8]), 1, 1, Degree(2, 2))
    >>> graph.neighbours(5)
    (3, 8)

    Args:
        ring: the clients in the order of a circle.
        degree: k and t.
    """

    ring: tuple[int, ...]
    degree: Degree
    _known: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, cohort: Ints, seed: int, round: int, degree: Degree) -> Graph:
        """Return the graph of a round, whose circle is in an order named by (seed, mask, round)."""
        order = numpy_generator(seed, "mask", round).permutation(np.sort(cohort))
        return cls(tuple(order.tolist()), degree)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {client: place for place, client in enumerate(self.ring)}

    def neighbours(self, client: int) -> tuple[int, ...]:
        """Return the clients that share masks with one, rising: the k/2 before and after it in the circle."""
        if client not in self._known:
            count, place, half = len(self.ring), self._places[client], self.degree.neighbours // 2
            if self.degree.neighbours >= count - 1:
                found = {other for other in self.ring if other != client}
            else:
                found = {self.ring[(place + step) % count] for step in range(-half, half + 1) if step}
            self._known[client] = tuple(sorted(found))
        return self._known[client]

    def connects(self, clients: Collection[int]) -> bool:
        """Tell if there is a way between any two of some clients over others of them."""
        left = set(clients)
        ahead = [left.pop()] if left else []
        while ahead and left:
            near = left.intersection(self.neighbours(ahead.pop()))
            left -= near
            ahead += near
        return not left
