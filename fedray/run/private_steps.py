"""The steps by which clients pay for the privacy of their rows, and the noise that a target takes, before a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.local.schedule import local_steps, poisson_rates
from fedray.privacy.accounting import multiplier_for
from fedray.privacy.client_ledger import Releases, dearest
from fedray.privacy.releases import Release
from fedray.run.plan import Plan


def planned_steps(plan: Plan, round: int, clients: Ints) -> Ints:
    """Return the local steps of some clients in all fits of a round, ``[C]``, as far as they are known before.

    A program that says another number of epochs or steps for each client is taken to do what the config says.
    """
    data, args = plan.task.data, plan.task.args
    keys, sizes = data.keys(clients), data.sizes[clients]
    total = np.zeros(len(clients), dtype=np.int64)
    for epochs, steps in plan.task.profile.works or ((None, None),):
        total += local_steps(args.working(epochs, steps), sizes, keys, plan.task.seed, round)
    return total


def planned_releases(plan: Plan) -> dict[int, Release]:
    """Return the steps of each client that takes part, in all rounds of the run, as one release each of a multiplier.

    Args:
        plan: of a run that protects rows.
    """
    assert plan.task.private is not None
    data = plan.task.data
    rates, total = poisson_rates(plan.task.args, data.sizes, data.keys(np.arange(len(data)))), np.zeros(len(data), int)
    for round in range(1, plan.rounds + 1):
        staying = plan.staying(round, plan.cohort(round))
        total[staying] += planned_steps(plan, round, staying)
    multiplier = plan.task.private.noise_multiplier
    return {i: Release(multiplier, float(rates[i]), int(total[i])) for i in np.flatnonzero(total).tolist()}


def with_target(plan: Plan) -> Plan:
    """Return a plan with the noise by which the client that pays most stays within ``privacy.epsilon``, if it is said.

    Raises:
        ConfigError: no noise is enough, or dp-accounting is not installed.
    """
    section, private = plan.privacy, plan.task.private
    if private is None or section is None or section.epsilon is None:
        return plan
    releases = {*planned_releases(plan).values()}
    clients: list[Releases] = [(each,) for each in sorted(releases)]
    kind = section.delta, section.accountant
    if not clients:
        return plan
    # Who has few rows pays for few steps at a large rate: most of them are close to rate times root of steps.
    most = max(releases, key=lambda one: one.rate * one.count**0.5)
    try:
        found = multiplier_for(section.epsilon, replace(most, count=1), most.count, *kind)
    except ValueError as error:
        raise ConfigError(f"privacy: {error}") from None
    while dearest(_with(clients, found), *kind) > section.epsilon:
        found = float(f"{found * 1.01:.4g}")  # another one pays more, by little
    return replace(plan, task=replace(plan.task, private=replace(private, noise_multiplier=found)))


def _with(clients: list[Releases], multiplier: float) -> list[Releases]:
    return [tuple(replace(each, noise_multiplier=multiplier) for each in releases) for releases in clients]
