"""Algorithms whose clients train models of different size, and the parts that they can have beside them."""

from __future__ import annotations

from dataclasses import replace

from fedray.aggregators.holders import MeanOfHolders
from fedray.aggregators.mean import Mean
from fedray.aggregators.ring import RingSum
from fedray.algorithms.composition import Composition
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.local.task import LocalTask
from fedray.sampling import Sampler
from fedray.transforms.base import Setting


def check_variants(algorithm: Composition, layout: Layout) -> None:
    """Raise ConfigError for a part that needs all updates to be of one length, or a client to keep a model.

    Args:
        algorithm: with attackers among its transforms; one without variants of the model has no such needs.
        layout: of the whole model.
    """
    if not algorithm.program.variants():
        return
    who = f"{algorithm.name} has models of different size"
    if type(algorithm.aggregator) is not Mean:
        raise ConfigError(
            f"aggregator: {who}, and takes for each entry the mean over those who hold it: use mean in the place of "
            f"{name_of(algorithm.aggregator)}"
        )
    for transform in algorithm.transforms:
        if transform.state or transform.needs_uniform or transform.linear_only or transform.hides_empty:
            raise ConfigError(
                f"transforms: {who}, and {name_of(transform)} keeps or protects updates of one length: leave it out"
            )
    if layout.personal:
        stays = next(entry.name for entry in layout.entries if entry.region == "personal")
        raise ConfigError(
            f"algorithm: {who}, and nothing of them can stay with a client, as {stays} does here "
            "(model.personal, local.buffers)"
        )
    if layout.frozen:
        raise ConfigError(f"algorithm: {who}, and nothing of them can be frozen, as {layout.frozen[0]} is here")
    if layout.tied:
        raise ConfigError(f"algorithm: {who}, and no weights can be tied, as {' and '.join(layout.tied[0])} are here")
    if layout.wrapper:
        raise ConfigError(f"algorithm: {who}, which are cut of a plain module: give it without {layout.wrapper}")


def fitted(algorithm: Composition, task: LocalTask, sampler: Sampler, rounds: int, dropout: float = 0.0) -> Composition:
    """Return an algorithm as it works in a run.

    Args:
        algorithm: the algorithm.
        task: the local training problem, which was tried.
        sampler: of cohorts.
        rounds: the number of rounds in all.
        dropout: the share of a cohort that drops out.

    Raises:
        ConfigError: a part cannot work with what clients send.
    """
    if task.submodels is not None:
        if more := [*task.profile.sends, *task.profile.rows, *task.receives, *task.addressed]:
            raise ConfigError(
                f"algorithm: {algorithm.name} has models of different size, and no vectors beside the model and its "
                f"update, such as {more[0]}"
            )
        if task.args.keep_optimizer:
            raise ConfigError(
                f"local.keep_optimizer: {algorithm.name} has models of different size, of which nothing is kept: "
                "leave it out"
            )
        algorithm = replace(algorithm, aggregator=MeanOfHolders(task.submodels))
    found = replace(algorithm, statistics=task.statistics, receives=task.receives, addressed=task.addressed)
    found = found.tried(task.profile)
    setting = Setting(
        sampler=sampler,
        sizes=task.data.sizes,
        dropout=dropout,
        rounds=rounds,
        layout=task.layout,
        sends=found.sends(task.layout),
        aggregator=name_of(found.aggregator),
        linear=found.aggregator.linear,
        uniform=found.weight == "uniform",
        seed=task.seed,
        private=any(part.noise is not None and not part.randomizes for part in found.transforms),
    )
    found = replace(found, transforms=found.transforms.prepared(setting))
    if found.transforms.ring is not None:
        found = replace(found, aggregator=RingSum(found.transforms.ring))
    if task.submodels is not None and (more := [*found.transforms.sends, *found.transforms.receives]):
        raise ConfigError(f"{more[0]}: {algorithm.name} has models of different size, and no vectors beside them")
    return found
