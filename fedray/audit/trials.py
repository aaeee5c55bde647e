"""Runs of the real engine with canaries, one after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedray.audit.bound import Guesses, Line
from fedray.audit.runs import check_whole, run
from fedray.audit.targets import target_of
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.core.rng import integer, numpy_generator
from fedray.experiment.build import Config
from fedray.run.plan import Plan
from fedray.rundir.scratch import scratch

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
    """An audit of a config with privacy for clients, or for their rows.

    Each trial is a run of the config, of another seed, with noise of its own.  Of its canaries some are in and the
    others are not, as the mechanism that is tested has neighbours: :class:`~fedray.audit.targets.Target`.

    Args:
        config: the experiment, bound, with the changes :data:`HERE`.
        trials: the number of runs, at least 1.
        canaries: their number in each run, at least 1.

    Raises:
        ConfigError: its privacy is none that can be audited; or there are fewer clients, or parameters, than canaries.
    """

    def __init__(self, config: Config, trials: int, canaries: int = 1) -> None:
        self._seed = config.schema.seed
        self._target = target_of(config.privacy, self._seed, config.transforms)
        if trials < 1 or canaries < 1 or trials * canaries < 2:
            raise ConfigError(
                f"--trials={trials} --canaries={canaries}: a canary must have been in and another not: their product "
                "must be at least 2"
            )
        plan = replace(config, transforms=(*config.transforms, *self._target.transforms)).plan()
        check_whole(plan)
        plan = self._target.place(plan, canaries)
        self._trials, self._count, self._threads = trials, canaries, config.place.worker.threads
        self.plan: Plan = plan.bare()

    def __iter__(self) -> Iterator[Found]:
        """Run the trials, and yield after each what all so far have shown.

        Raises:
            RunFailed: a run could not go on.
        """
        count = self._count
        bits = np.arange(self._trials * count) % 2 == 0
        there = numpy_generator(self._seed, "canary", round=2).permutation(bits).reshape(self._trials, count)
        scores: list[NDArray[np.float64]] = []
        for trial in range(self._trials):
            scores.append(self._score(trial, there[trial]))
            yield Found(np.concatenate(scores), there[: trial + 1].ravel())

    def lines(self, guesses: Guesses, confidence: float) -> list[Line]:
        """Return the claim and the bound at the claim's delta, and at those of :data:`DELTAS` above it."""
        section = self.plan.privacy
        assert section is not None
        own = section.counted_at
        deltas = [own, *(delta for delta in DELTAS if delta > own)]
        return [Line(d, self._target.claimed(d), guesses.epsilon(d, confidence)) for d in deltas]

    def _score(self, trial: int, there: NDArray[np.bool_]) -> NDArray[np.float64]:
        self._target.begin(there)
        seed = integer(self._seed, "canary", round=3, client=trial)
        plan = replace(self.plan, task=replace(self.plan.task, seed=seed))
        records: list[RoundRecord] = []
        with scratch() as place:
            run(plan, place, self._threads, recorded=records.append)
        return self._target.scores(plan, records)
