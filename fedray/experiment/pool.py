"""The training of one client that has everybody's rows, with the work of a federated round."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedray.algorithms.composition import Composition
from fedray.attacks import Attack
from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError, listed
from fedray.core.messages import Ints
from fedray.data import ClientData
from fedray.data.columns.pooled import Pooled
from fedray.local.schedule import local_steps
from fedray.sampling import Sampler


@dataclass(frozen=True)
class Last(Sampler):
    """The last client alone.

    >>> Last().cohort(np.array([5, 5, 10]), seed=1, round=1)
    array([2])
    """

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return the last client."""
        return np.array([len(sizes) - 1])

    def expected(self, sizes: Ints) -> float:
        """Return 1."""
        return 1.0


def pooled(
    data: ClientData,
    algorithm: Composition,
    sampler: Sampler,
    seed: int,
    failures: FailuresSection,
    attack: Attack | None,
) -> tuple[ClientData, Composition, Sampler]:
    """Return the data, the algorithm and the sampler; those of one client with all training rows where it asks for it.

    In each round it takes the steps that a cohort is expected to take together, as clients do in the first round.

    Args:
        data: the clients.
        algorithm: the parts of the algorithm.
        sampler: of the federated cohorts.
        seed: the run's seed.
        failures: of the run.
        attack: of the run, if there is one.

    Raises:
        ConfigError: rows that cannot leave their silo; dropouts or an attack, which speak of other clients.
    """
    if not algorithm.program.pools:
        return data, algorithm, sampler
    if data.silos:
        raise ConfigError(
            f"algorithm: centralized needs all rows in one place, and those of {listed([*data.silos])} stay where they "
            "are; take local_only to compare with"
        )
    if attack is not None or failures.dropout:
        what = "attack" if attack is not None else "failures.dropout"
        raise ConfigError(f"{what}: with centralized there is one client alone; leave it out")
    everyone = np.arange(len(data))
    steps = local_steps(algorithm.args, data.sizes, data.keys(everyone), seed, 1)
    share = sampler.expected(data.sizes) / len(data)
    args = algorithm.args.working(None, max(1, round(float(steps.sum()) * share)))
    return Pooled(data), replace(algorithm, args=args), Last()
