"""An algorithm some of whose clients are Byzantine."""

from __future__ import annotations

from dataclasses import replace

from fedray.aggregators.gathered import Gathered
from fedray.algorithms.composition import Composition
from fedray.attacks.attackers import Attacked, Attackers
from fedray.attacks.base import Attack
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.data import ClientData


def attacked(algorithm: Composition, attack: Attack, data: ClientData, seed: int) -> tuple[Composition, Attackers]:
    """Return the algorithm with attackers among its parts, and who they are.

    Raises:
        ConfigError: they would see the updates of others, which this aggregator lets nobody see; or there are none.
    """
    attackers = Attackers.of(attack, data, seed)
    if not attack.gathers:
        return replace(algorithm, transforms=algorithm.transforms.followed_by(attackers)), attackers
    if not isinstance(algorithm.aggregator, Gathered):
        raise ConfigError(
            f"attack: attackers of {name_of(attack)} look at all updates of a cohort, and with the aggregator "
            f"{name_of(algorithm.aggregator)} nobody sees single ones; take one that gathers them, such as median "
            "or krum ({name: trimmed_mean, trim: 0.0} is their mean), or an attack of each by itself, such as sign_flip"
        )
    return replace(algorithm, aggregator=Attacked(algorithm.aggregator, attackers)), attackers
