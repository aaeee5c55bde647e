"""What a run does, apart from where: its parts, and what follows from them for each round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedray.algorithms.base import Algorithm
from fedray.config.sections import BudgetSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.messages import Block, Ints
from fedray.local.task import LocalTask
from fedray.run.blocks import cut
from fedray.run.failure_policy import FailurePolicy
from fedray.rundir.checkpoint import CheckpointArgs
from fedray.rundir.client_state import ClientStore
from fedray.sampling import Sampler


@dataclass(frozen=True)
class EvaluateArgs:
    """When to evaluate.

    Args:
        every: on the central test set after every so many rounds, and after the last; 0 never.
        clients_every: on the clients' held-out data after every so many rounds, and after the last; 0 never.
    """

    every: int = 1
    clients_every: int = 0

    def due(self, every: int, round: int, last: int) -> bool:
        """Whether the model after ``round`` is evaluated."""
        return every > 0 and (round % every == 0 or round == last) and round > 0


@dataclass(frozen=True)
class Plan:
    """What a run does, apart from where.

    Args:
        task: local training.
        algorithm: its parts; the server rule must be started.
        sampler: cohorts.
        rounds: how many in all.
        evaluate: when to evaluate.
        failures: what failures mean.
        left_out: indices of clients that are given up unasked, by round.
        checkpoint: when to save.
        budget: what all rounds may use.
    """

    task: LocalTask
    algorithm: Algorithm
    sampler: Sampler
    rounds: int
    evaluate: EvaluateArgs = field(default_factory=EvaluateArgs)
    failures: FailurePolicy = field(default_factory=FailurePolicy)
    checkpoint: CheckpointArgs = field(default_factory=CheckpointArgs)
    budget: BudgetSection = field(default_factory=BudgetSection)
    left_out: Mapping[int, frozenset[int]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """The model's layout."""
        return self.task.layout

    def cohort(self, round: int) -> Ints:
        """The clients of a round."""
        return self.sampler.cohort(self.task.data.sizes, self.task.seed, round)

    def weight(self, clients: Ints) -> float:
        """Total aggregation weight of some clients."""
        return float(len(clients) if self.algorithm.weight == "uniform" else self.task.data.sizes[clients].sum())

    def block_size(self, halvings: int) -> int:
        """Clients in a block."""
        size: int = -(-self.task.stacking.size // 2**halvings)
        return size

    def blocks(self, round: int, cohort: Ints, store: ClientStore, halvings: int = 0) -> list[Block]:
        """The round's blocks, longest first."""
        steps = self.task.args.local_steps(self.task.data.sizes[cohort])
        pieces = cut(cohort, steps, self.block_size(halvings), self.task.data.pins(cohort))
        unasked = self.left_out.get(round, frozenset())
        return [
            Block(
                round,
                index,
                clients,
                store.of(clients),
                self.task.data.pin(int(clients[0])),
                tuple(sorted(unasked.intersection(clients.tolist()))) if unasked else (),
            )
            for index, clients in enumerate(pieces)
        ]

    def traffic(self, sampled: int, accepted: int) -> dict[str, int]:
        """Bytes of a round: ``down`` to the sampled clients, ``up`` from the accepted ones."""
        down, up = self.algorithm.download(self.layout), self.algorithm.upload(self.layout)
        return {"down": down * sampled, "up": up * accepted}


def check_cohort(sampler: Sampler, sizes: Ints) -> None:
    """ConfigError if the sampler cannot draw from these clients."""
    try:
        sampler.check(sizes)
    except ValueError as error:
        raise ConfigError(f"sampler: {error}") from None
