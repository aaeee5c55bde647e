"""The parts of a run that privacy cannot stand beside, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from fedray.aggregators.base import Aggregator
from fedray.aggregators.mean import Mean
from fedray.algorithms.base import Algorithm
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.monitor import Monitor
from fedray.local.modes import train_mode
from fedray.local.private import check_model
from fedray.local.task import LocalTask
from fedray.transforms.base import Transform
from fedray.transforms.clip import Clip
from fedray.transforms.gaussian import Gaussian


def check_parts(
    algorithm: Algorithm,
    transforms: Sequence[Transform],
    aggregator: Aggregator,
    attacked: bool = False,
    local: bool = False,
) -> None:
    """Check that parts leave the clip as the last thing that is done to an update, and the mean as what is released.

    Args:
        algorithm: the algorithm.
        transforms: those of the config, in their order.
        aggregator: the aggregator.
        attacked: some clients are Byzantine.
        local: each client noises what it sends, so that what is done to it then, by whomever, costs nothing.

    Raises:
        ConfigError: one does not; the message says why, and what to do.
    """
    for position, transform in enumerate(transforms):
        here, name = f"transforms[{position}]", name_of(transform)
        if isinstance(transform, Clip | Gaussian):
            raise ConfigError(
                f"{here}: privacy has a clip and noise of its own, which come last and are accounted for: leave {name} "
                "out (its options are privacy.norm and privacy.noise_multiplier)"
            )
        if transform.sends:
            raise ConfigError(
                f"{here}: clients send {', '.join(transform.sends)} for {name} past the clip and the noise of privacy: "
                "leave it out"
            )
        if type(transform).on_arrival is not Transform.on_arrival and not local:
            raise ConfigError(f"{here}: {name} changes updates after the clip of privacy: leave it out")
    if type(aggregator) is not Mean and not local:
        raise ConfigError(
            f"aggregator: the noise of privacy is made for a sum, which one client changes by its clipped update at "
            f"most, and {name_of(aggregator)} is none: use mean"
        )
    if attacked and not local:
        raise ConfigError(
            "attack: attackers send what they like, past the clip that privacy relies on: leave attack or privacy out"
        )
    if algorithm.pools:
        raise ConfigError(
            f"algorithm: {algorithm.name} has all rows in one place, where there is no client to protect: leave "
            "privacy out, or take an algorithm with clients"
        )


def check_decisions(watched: Mapping[str, Monitor]) -> None:
    """Check that nothing private decides when a run ends or which model it keeps.

    Args:
        watched: the metrics that do, by their config keys.

    Raises:
        ConfigError: training losses, or evaluations on clients' rows.
    """
    for key, monitor in watched.items():
        if monitor.section not in ("test", "metrics"):
            raise ConfigError(
                f"{key}={monitor.metric}: it comes from clients' rows without any noise, and would be told by what the "
                "run does; under privacy take a metric of the test set, such as test.loss"
            )


def check_rows(task: LocalTask, module: nn.Module) -> None:
    """Check that single rows reach nothing that leaves their client but private gradients.

    Args:
        task: the local training problem.
        module: its model, as its builder gives it.

    Raises:
        ConfigError: they do.
    """
    check_model(train_mode(module))
    if task.program.surveyed:
        raise ConfigError(
            "privacy.unit=example: clients answer a survey from their rows, without any noise: take an algorithm "
            "without one, or privacy.unit: client"
        )
    if task.args.class_weights is not None:
        raise ConfigError(
            "local.class_weights: they are counted from the rows that privacy.unit=example protects: leave them out"
        )
    if task.args.group_by_length is not None:
        raise ConfigError(
            "local.group_by_length: under privacy.unit=example each row enters a batch by a coin of its own, whatever "
            "its length: leave it out"
        )
