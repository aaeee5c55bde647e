"""Samplers of cohorts: the clients of a round are a pure function of (seed, round)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from fedray.config.registry import Registry
from fedray.core.messages import Ints
from fedray.core.rng import numpy_generator


class Sampler(ABC):
    """The base of samplers, which choose cohorts.

    >>> class First(Sampler):
    ...     def cohort(self, sizes, seed, round):
    ...         return np.arange(2)
    ...     def expected(self, sizes):
    ...         return 2.0
    >>> First().cohort(np.array([5, 5, 5]), seed=1, round=1)
    array([0, 1])
    """

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if no cohort can be drawn from clients with ``sizes`` examples each."""
        return

    @abstractmethod
    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Draw the cohort of a round: client indices in increasing order, each at most once.

        Args:
            sizes: number of training examples of each client, ``[n]``.
            seed: the run's seed.
            round: round number.
        """

    @abstractmethod
    def expected(self, sizes: Ints) -> float:
        """Return the expected number of clients in a cohort."""


samplers = Registry("sampler", package="fedray.sampling", base=Sampler, such_as="fedray.Uniform(10)")


def _check_count(clients: int, sizes: Ints) -> None:
    if clients < 1:
        raise ValueError(f"clients={clients}: a cohort has at least 1 client")
    if clients > len(sizes):
        raise ValueError(f"clients={clients}: the data has only {len(sizes)} clients")


@samplers.register("full")
@dataclass(frozen=True)
class Full(Sampler):
    """Every client, every round.

    >>> Full().cohort(np.array([5, 5, 5]), seed=1, round=1)
    array([0, 1, 2])
    """

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return all clients."""
        return np.arange(len(sizes))

    def expected(self, sizes: Ints) -> float:
        """Return the number of clients."""
        return float(len(sizes))


@samplers.register("uniform")
@dataclass(frozen=True)
class Uniform(Sampler):
    """A fixed number of clients, uniformly without replacement.

    >>> [Uniform(clients=2).cohort(np.full(100, 5), seed=1, round=round).tolist() for round in (1, 2)]
    [[49, 66], [31, 51]]

    Args:
        clients: cohort size, 1 to n.
    """

    clients: int

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if the cohort is larger than the federation."""
        _check_count(self.clients, sizes)

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Draw ``clients`` distinct indices."""
        chosen = numpy_generator(seed, "cohort", round).choice(len(sizes), self.clients, replace=False, shuffle=False)
        return np.sort(chosen.astype(np.int64))

    def expected(self, sizes: Ints) -> float:
        """Return the fixed number."""
        return float(self.clients)


@samplers.register("poisson")
@dataclass(frozen=True)
class Poisson(Sampler):
    """Every client independently with the same probability (as differential privacy's accounting assumes).

    A cohort may be empty: such a round leaves the model as it is, but for the noise of ``gaussian``.

    >>> Poisson(rate=0.05).cohort(np.full(100, 5), seed=1, round=1), Poisson(rate=0.05).expected(np.full(100, 5))
    (array([ 5,  7, 12, 29, 44, 51]), 5.0)

    Args:
        rate: sampling probability q in (0, 1].
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"rate={self.rate}: it must be above 0 and at most 1")

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Toss a coin for each client."""
        return np.flatnonzero(numpy_generator(seed, "cohort", round).random(len(sizes)) < self.rate)

    def expected(self, sizes: Ints) -> float:
        """Return ``q n``."""
        return self.rate * len(sizes)


@samplers.register("weighted")
@dataclass(frozen=True)
class Weighted(Sampler):
    """A fixed number of clients without replacement, likelier with more examples.

    Successive sampling with probability proportional to the number of examples among those left, by the Gumbel-top-k
    trick (Kool et al., arXiv:1903.06059).

    >>> [Weighted(clients=1).cohort(np.array([1, 1, 8]), seed=1, round=round).item() for round in range(12)]
    [2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2]

    Args:
        clients: cohort size, 1 to n.
    """

    clients: int

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if the cohort is larger than the federation."""
        _check_count(self.clients, sizes)

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return the ``clients`` largest perturbed log sizes."""
        score = np.log(sizes) + numpy_generator(seed, "cohort", round).gumbel(size=len(sizes))
        return np.sort(np.argsort(-score, kind="stable")[: self.clients])

    def expected(self, sizes: Ints) -> float:
        """Return the fixed number."""
        return float(self.clients)
