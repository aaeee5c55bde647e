"""Checks of a plan: what of a run is known to fail before it begins."""

from __future__ import annotations

from fedray.aggregators.base import Aggregator, too_few
from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.run.plan import Plan
from fedray.run.samples import check_samples
from fedray.run.weights import check_weights
from fedray.sampling import Sampler


def check_cohort(sampler: Sampler, sizes: Ints) -> None:
    """Raise ConfigError if the sampler cannot draw from these clients."""
    try:
        sampler.check(sizes)
    except ValueError as error:
        raise ConfigError(f"sampler: {error}") from None


def check_least(aggregator: Aggregator, sampler: Sampler, sizes: Ints, dropout: float = 0.0) -> None:
    """Raise ConfigError if an aggregator needs more updates than a cohort is expected to have, dropouts aside."""
    if (expected := sampler.expected(sizes) * (1.0 - dropout)) < aggregator.least:
        raise ConfigError(too_few(aggregator, expected, "a cohort has"))


def check_plan(plan: Plan) -> None:
    """Raise ConfigError for what of a run is known to fail before it begins."""
    check_cohorts(plan)
    check_weights(plan.algorithm.weight, plan.task)
    check_samples(plan.task.about, plan.task.data, plan.evaluate.every > 0 and plan.views.shared)


def check_cohorts(plan: Plan) -> None:
    """Raise ConfigError if a round of the run has clients, but too few of them for the aggregator.

    Draws, dropouts and those that are left out are known before the run; failures are not.
    """
    aggregator = plan.algorithm.aggregator
    for round in range(1, plan.rounds + 1) if aggregator.least else ():
        cohort = plan.cohort(round)
        clients = plan.staying(round, cohort).tolist()
        count = len(set(clients) - plan.left_out.get(round, frozenset()))
        if 0 < count < aggregator.least_of(len(cohort)):
            raise ConfigError(too_few(aggregator, count, f"round {round} will have", len(cohort)))
