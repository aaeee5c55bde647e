"""The Byzantine clients of a run, and the two places at which they act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedray.aggregators.gathered import Gathered, Rows
from fedray.attacks.base import Attack
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.messages import DELTA, Aggregate, BlockUpdate, Ints, Parts
from fedray.core.now import Now
from fedray.core.rng import numpy_generator
from fedray.data import ClientData
from fedray.transforms.base import Transform


@dataclass(frozen=True, eq=False)
class Attackers(Transform):
    """The Byzantine clients of a run: the last transform on a client's side, where they need to know no others.

    Args:
        attack: the attack.
        clients: their indices, rising, ``[A]``.
        keys: their keys, which name their draws, ``[A]``.
        seed: the run's seed.
    """

    attack: Attack
    clients: Ints
    keys: Ints
    seed: int

    @classmethod
    def of(cls, attack: Attack, data: ClientData, seed: int) -> Attackers:
        """Draw or look up the Byzantine clients.

        Raises:
            ConfigError: an id that no client has, or a share of nobody.
        """
        if isinstance(attack.clients, float | int):
            count = int(attack.clients * len(data) + 0.5)
            if attack.clients and not count:
                raise ConfigError(
                    f"attack.clients: {attack.clients} of {len(data)} clients is nobody; take a larger share"
                )
            chosen = numpy_generator(seed, "attack").permutation(len(data))[:count]
        else:
            chosen = np.array(_indices(list(attack.clients), data), dtype=np.int64)
        clients = np.sort(chosen).astype(np.int64)
        return cls(attack, clients, data.keys(clients), seed)

    def among(self, clients: Ints) -> Ints:
        """Return the positions of attackers in ``clients``."""
        return np.flatnonzero(np.isin(clients, self.clients))

    def on_clients(self, update: BlockUpdate) -> None:
        """Let the attackers of a block send what they like."""
        if not self.attack.gathers:
            self.forge(update.parts[DELTA], update.clients, update.round)

    def forge(self, delta: Tensor, clients: Ints, round: int) -> None:
        """Replace the rows of attackers in ``delta`` ``[n, D]``, whose rows are those of ``clients``."""
        positions = self.among(clients)
        if not len(positions):
            return
        keys = self.keys[np.searchsorted(self.clients, clients[positions])]
        draws = [numpy_generator(self.seed, "attack", round, key) for key in keys.tolist()]
        lying = torch.from_numpy(positions).to(delta.device)
        known, own = (delta, lying) if self.attack.gathers else (delta[lying], torch.arange(len(lying)))
        delta[lying] = self.attack.forge(known, own.to(delta.device), draws)


@dataclass(frozen=True, repr=False)
class Attacked(Gathered):
    """An aggregator whose rows attackers have changed, who saw them all.

    Args:
        aggregator: the aggregator.
        attackers: the attackers.
    """

    aggregator: Gathered
    attackers: Attackers

    @property
    def name(self) -> str:
        """The aggregator's name."""
        return name_of(self.aggregator)

    @property
    def least(self) -> int:
        """The smallest number of updates that the aggregator can work with."""
        return self.aggregator.least

    @property
    def weighted(self) -> bool:  # type: ignore[override]
        """True if clients count by their weights."""
        return self.aggregator.weighted

    def __repr__(self) -> str:
        """Return that of the aggregator, for messages."""
        return repr(self.aggregator)

    def left_out(self, count: int) -> int | None:
        """Return how many values the aggregator leaves out."""
        return self.aggregator.left_out(count)

    def initial_state(self, sent: Mapping[str, int], device: str) -> Parts:
        """Return the tensors that the server keeps for the aggregator."""
        return self.aggregator.initial_state(sent, device)

    def finish(self, total: Mapping[str, Tensor], weight: float, planned: float, count: int, now: Now) -> Aggregate:
        """Let the attackers change their rows, then aggregate."""
        rows = Rows.of(total)
        rows = replace(rows, parts=dict(rows.parts))  # here, where they can be changed
        self.attackers.forge(rows.delta, rows.clients, now.round)
        return Aggregate(self.aggregate(rows, now), weight, count)

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Aggregate what the attackers have left."""
        return self.aggregator.aggregate(rows, now)


def _indices(names: list[str], data: ClientData) -> list[int]:
    index = data.names.find(names)
    for name in names:
        if name not in index:
            raise ConfigError(f"attack.clients: {data.names.unknown(name)}")
    return [index[name] for name in dict.fromkeys(names)]
