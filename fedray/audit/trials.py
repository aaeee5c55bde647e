"""Runs of the real engine with canaries, one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedray.audit.bound import Guesses, Line, correlated_ratio, log_ratio
from fedray.audit.canary import Canary
from fedray.audit.runs import run
from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.core.rng import integer, numpy_generator
from fedray.experiment.build import Config
from fedray.privacy.accounting import spent
from fedray.privacy.central import Central
from fedray.run.plan import Plan
from fedray.rundir.scratch import scratch
from fedray.sampling import InTurns

DELTAS = (0.01, 0.03, 0.1, 0.2, 0.3)
"""Further deltas of a test, beside the claim's own: the accountant has an epsilon for each, and refuting one refutes
the mechanism.  At a small delta only thousands of trials tell anything."""


@dataclass(frozen=True)
class Found:
    """The results of trials so far.

    Args:
        scores: of each canary of each run, ``[n]``.
        there: true where it was in, ``[n]``.
    """

    scores: NDArray[np.float64]
    there: NDArray[np.bool_]

    @property
    def guesses(self) -> Guesses:
        """The guesses by the scores."""
        return Guesses.of(self.scores, self.there)


class Audit:
    """An audit of a config with client-level privacy by the server.

    Each trial is a run of the config, of another seed, with noise of its own.  Of its canaries some are in and the
    others are not: one that is not in sends zeros, which with a fixed denominator is as if it were not there, and under
    ``replace_one`` the opposite.

    Args:
        config: the experiment, bound, with the changes :data:`HERE`.
        trials: the number of runs, at least 1.
        canaries: their number in each run, at least 1.

    Raises:
        ConfigError: its privacy is none that can be audited; or there are fewer clients, or parameters, than canaries.
    """

    def __init__(self, config: Config, trials: int, canaries: int = 1) -> None:
        section = config.privacy
        if section is None:
            raise ConfigError(
                "privacy: there is none, so nothing is claimed: give the section, or audit another config"
            )
        if section.unit != "client" or section.model != "central":
            raise ConfigError(
                f"privacy.unit={section.unit}, privacy.model={section.model}: canaries are clients, so what can be "
                "audited is unit: client with model: central"
            )
        if section.clip != "fixed" or section.per_layer:
            raise ConfigError(
                "privacy.clip: a canary is made for one norm over all layers: audit it with clip=fixed, per_layer=false"
            )
        if trials < 1 or canaries < 1 or trials * canaries < 2:
            raise ConfigError(
                f"--trials={trials} --canaries={canaries}: a canary must have been in and another not: their product "
                "must be at least 2"
            )
        self._seed = config.schema.seed
        canary = Canary(np.zeros(0, dtype=np.int64), section.norm, self._seed)
        plan = replace(config, transforms=(*config.transforms, canary)).plan()
        clients = len(plan.task.data)
        self.central = next(part for part in plan.algorithm.transforms if isinstance(part, Central))
        width = sum(stop - start for group in self.central.groups for name, start, stop in group if name == "delta")
        if canaries > min(clients, width):
            raise ConfigError(
                f"--canaries={canaries}: there are {clients:,} clients and {width:,} shared parameters, and each "
                "canary is a client with a direction of its own: ask for fewer"
            )
        order = numpy_generator(self._seed, "canary", round=1).permutation(clients)
        canary.clients = np.sort(order[:canaries])
        self._canary, self._trials, self._threads = canary, trials, config.place.worker.threads
        self.plan: Plan = plan.bare()

    def __iter__(self) -> Iterator[Found]:
        """Run the trials, and yield after each what all so far have shown.

        Raises:
            RunFailed: a run could not go on.
        """
        count = len(self._canary.clients)
        bits = np.arange(self._trials * count) % 2 == 0
        there = numpy_generator(self._seed, "canary", round=2).permutation(bits).reshape(self._trials, count)
        scores: list[NDArray[np.float64]] = []
        for trial in range(self._trials):
            scores.append(self._score(trial, there[trial]))
            yield Found(np.concatenate(scores), there[: trial + 1].ravel())

    def lines(self, guesses: Guesses, confidence: float) -> list[Line]:
        """Return the claim and the bound at the claim's delta, and at those of :data:`DELTAS` above it."""
        section = self.central.privacy
        releases = self.central.release().over(self.plan.rounds)
        deltas = [section.delta, *(delta for delta in DELTAS if delta > section.delta)]
        claims = [spent(releases, delta, section.accountant) for delta in deltas]
        return [Line(d, claim, guesses.epsilon(d, confidence)) for d, claim in zip(deltas, claims, strict=True)]

    def _score(self, trial: int, there: NDArray[np.bool_]) -> NDArray[np.float64]:
        cohorts, replaced = self.central.cohorts, self.central.cohorts.relation == "replace_one"
        canaries = self._canary
        canaries.begin(np.where(there, 1.0, -1.0 if replaced else 0.0))
        seed = integer(self._seed, "canary", round=3, client=trial)
        plan = replace(self.plan, task=replace(self.plan.task, seed=seed))
        with scratch() as place:
            run(plan, place, self._threads)
        unit = self.central.privacy.norm * cohorts.factor / cohorts.expected
        shift = 0.5 if replaced else 0.0
        seen, multiplier = np.stack(canaries.seen) / unit + shift, self.central.multiplier
        correlation = self.central.correlation
        if correlation is None:
            return log_ratio(seen, multiplier, np.float64(cohorts.rate) * self._among(plan, _turn), shift)
        z = multiplier * correlation.sensitivity(cohorts.turns)
        return correlated_ratio(seen, z, self._among(plan, Plan.cohort), correlation.matrix(), shift)

    def _among(self, plan: Plan, who: Callable[[Plan, int], Ints]) -> NDArray[np.bool_]:
        """Return which canaries are among those of each round, ``[T, K]``."""
        return np.stack([np.isin(self._canary.clients, who(plan, round)) for round in range(1, plan.rounds + 1)])


def _turn(plan: Plan, round: int) -> Ints:
    """Return the clients that may take part in a round: those whose turn it is, which is no secret, or all."""
    sizes = plan.task.data.sizes
    if isinstance(plan.sampler, InTurns):
        return plan.sampler.group(sizes, plan.task.seed, round)
    return np.arange(len(sizes))
