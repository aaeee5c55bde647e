"""The moment of a run at which a part of the server does its work."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fedray.core.messages import Parts
from fedray.core.noise import Noise
from fedray.core.rng import numpy_generator


@dataclass(frozen=True, slots=True)
class Now:
    """A round as a part of the server sees it: the name of its draws, what it keeps, and what it has to tell.

    >>> now = Now(seed=1, round=3)
    >>> now.generator().integers(100, size=3)
    array([34, 73, 34])
    >>> now.metrics["score"] = 0.5  # reaches the record under the part's name

    Args:
        seed: the run's seed.
        round: round number, from 1.
        state: the tensors that the part keeps from round to round; it changes them here, or puts others in their place.
        metrics: numbers for the record of the round, by name.
        shares: of the clients in the aggregate, by client index, where the part gives each client one.
        clients: the accepted clients whose updates are aggregated, by index, rising; none where nobody says.
        part: its number: 0 for the aggregator, then the transforms in their order, so that no two draw the same.
        noise: its noise, where it protects privacy by some.
    """

    seed: int
    round: int
    state: Parts = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    clients: tuple[int, ...] = ()
    part: int = 0
    noise: Noise | None = None

    def generator(self, client: int = 0) -> np.random.Generator:
        """Make a generator named by (seed, aggregate, round, client, part); ``client`` is a client's key, 0 for all."""
        return numpy_generator(self.seed, "aggregate", self.round, client + (self.part << 64))
