"""Mechanisms that can be audited: the neighbours that tell most of each, the scores of guesses, and the claim."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.audit.bound import correlated_ratio, laplace_ratio, log_ratio
from fedray.audit.canary import Canary, OwnCanary
from fedray.audit.rows import RowCanaries, with_canaries
from fedray.core.errors import ConfigError
from fedray.core.messages import DELTA, Ints
from fedray.core.record import RoundRecord
from fedray.core.rng import numpy_generator
from fedray.local.schedule import poisson_rates
from fedray.privacy.accounting import spent
from fedray.privacy.central import Central
from fedray.privacy.client_ledger import dearest
from fedray.privacy.randomized import Local
from fedray.privacy.releases import Release
from fedray.privacy.section import Privacy
from fedray.run.plan import Plan
from fedray.sampling import InTurns
from fedray.transforms.base import Transform


class Target(ABC):
    """A mechanism under test, with canaries that send its worst neighbours.

    Args:
        section: the config's.
        seed: its seed, which names draws.

    Attributes:
        transforms: those that make clients canaries, to stand before those of the section.
    """

    transforms: tuple[Transform, ...] = ()

    @abstractmethod
    def place(self, plan: Plan, count: int) -> Plan:
        """Choose the clients that are canaries, of a plan that has the transforms, and return it with them.

        Raises:
            ConfigError: there is no room for so many.
        """

    @abstractmethod
    def begin(self, there: NDArray[np.bool_]) -> None:
        """Begin a run in which some canaries are in, ``[K]``."""

    @abstractmethod
    def scores(self, plan: Plan, records: Sequence[RoundRecord]) -> NDArray[np.float64]:
        """Return the log likelihood ratios that canaries were in, ``[K]``, of a run of ``plan`` that has ended."""

    @abstractmethod
    def claimed(self, delta: float) -> float:
        """Return the epsilon that is claimed of all canaries so far at ``delta``."""


class OfServer(Target):
    """The noise on a sum, of a server or shared by clients: a canary is in, or sends zeros, or its opposite.

    Its opposite is of ``replace_one``.  One that sends zeros is with a fixed denominator as if it were not there.  Of
    an adaptive clip the updates are scored, by the norm that each round tells, and not the bits.
    """

    def __init__(self, section: Privacy, seed: int) -> None:
        self._seed = seed
        self._canary = Canary(np.zeros(0, dtype=np.int64), section.norm, seed)
        self.transforms = (self._canary,)

    def place(self, plan: Plan, count: int) -> Plan:
        """See the base: each canary is a client with a direction of its own in each group of columns."""
        self._rounds, clients = plan.rounds, len(plan.task.data)
        self._central = next(part for part in plan.algorithm.transforms if isinstance(part, Central))
        spans = [[np.arange(a, b) for name, a, b in group if name == DELTA] for group in self._central.groups]
        self._canary.groups = [np.concatenate(columns) for columns in spans if columns]
        width = min(len(columns) for columns in self._canary.groups)
        if count > min(clients, width):
            least = " of the smallest layer" if len(self._canary.groups) > 1 else ""
            raise ConfigError(
                f"--canaries={count}: there are {clients:,} clients and {width:,} shared parameters{least}, and each "
                "canary is a client with a direction of its own: ask for fewer"
            )
        self._canary.clients = _drawn(self._seed, np.arange(clients), count)
        return plan

    def begin(self, there: NDArray[np.bool_]) -> None:
        """See the base."""
        self._canary.begin(np.where(there, 1.0, -1.0 if self._replaced else 0.0))

    def scores(self, plan: Plan, records: Sequence[RoundRecord]) -> NDArray[np.float64]:
        """See the base."""
        central, cohorts = self._central, self._central.cohorts
        clips = np.array([record.metrics["privacy"]["clip"] for record in records])
        shift = 0.5 if self._replaced else 0.0
        seen = np.stack(self._canary.seen) / (clips[:, None] * cohorts.factor / cohorts.expected) + shift
        if central.correlation is None:
            known = self._among(plan, Plan.cohort) if cohorts.seen else cohorts.rate * self._among(plan, _turn)
            return log_ratio(seen, central.of_update, np.float64(1.0) * known, shift)
        z = central.multiplier * central.correlation.sensitivity(cohorts.turns)
        return correlated_ratio(seen, z, self._among(plan, Plan.cohort), central.correlation.matrix(), shift)

    def claimed(self, delta: float) -> float:
        """See the base."""
        return spent(self._central.release().over(self._rounds), delta, self._central.accountant)

    @property
    def _replaced(self) -> bool:
        return self._central.cohorts.relation == "replace_one"

    def _among(self, plan: Plan, who: Callable[[Plan, int], Ints]) -> NDArray[np.bool_]:
        """Return which canaries are among those of each round, ``[T, K]``."""
        return np.stack([np.isin(self._canary.clients, who(plan, round)) for round in range(1, plan.rounds + 1)])


class OfClients(Target):
    """The noise of clients on all that they send: a canary sends a large update, or its opposite."""

    def __init__(self, section: Privacy, seed: int) -> None:
        self._seed, self._most = seed, 0
        self._canary = OwnCanary(np.zeros(0, dtype=np.int64), section.norm)
        self.transforms = (self._canary,)

    def place(self, plan: Plan, count: int) -> Plan:
        """See the base: the first entry of each canary's own update tells of it, whoever else sends."""
        clients = len(plan.task.data)
        if count > clients:
            raise ConfigError(f"--canaries={count}: there are {clients:,} clients: ask for fewer")
        self._local = next(part for part in plan.algorithm.transforms if isinstance(part, Local))
        self._canary.clients = _drawn(self._seed, np.arange(clients), count)
        return plan

    def begin(self, there: NDArray[np.bool_]) -> None:
        """See the base."""
        self._canary.begin(np.where(there, 1.0, -1.0))

    def scores(self, plan: Plan, records: Sequence[RoundRecord]) -> NDArray[np.float64]:
        """See the base."""
        one, count = self._local.randomizer, len(self._canary.clients)
        # 1/2 is as likely either way: what is seen of a round in which a client did not take part.
        seen = np.full((plan.rounds, count), 0.5)
        for (round, place), entry in self._canary.seen.items():
            seen[round - 1, place] += entry / (2.0 * one.norm)
        times = np.bincount([place for _, place in self._canary.seen], minlength=count)
        self._most = max(self._most, int(times.max()))
        if one.mechanism == "laplace":
            return laplace_ratio(seen, one.multiplier)
        return log_ratio(seen, one.multiplier, 1.0)

    def claimed(self, delta: float) -> float:
        """See the base: it is that of the canary that took part most often."""
        return self._local.randomizer.spent(self._most, delta)


class OfRows(Target):
    """The noise of clients on the gradients of their steps: a canary is a row of a client, there or not."""

    def __init__(self, section: Privacy, seed: int) -> None:
        self._section, self._seed = section, seed
        self._dearest: dict[float, int] = {}

    def place(self, plan: Plan, count: int) -> Plan:
        """See the base: a canary is the first row of a client; the noise of each client is its own."""
        data, private = plan.task.data, plan.task.private
        clients = np.flatnonzero(data.sizes)
        if count > len(clients):
            raise ConfigError(f"--canaries={count}: there are {len(clients):,} clients with rows: ask for fewer")
        assert private is not None
        chosen = _drawn(self._seed, clients, count)
        x, y = data.rows(chosen, torch.device("cpu")).take(np.zeros((count, 1), dtype=np.int64))
        self._multiplier, keys = private.noise_multiplier, data.keys(chosen)
        self._rates = poisson_rates(plan.task.args, data.sizes[chosen], keys)
        self._canaries = RowCanaries({key: place for place, key in enumerate(keys.tolist())}, x, y)
        return replace(plan, task=replace(plan.task, private=with_canaries(private, self._canaries)))

    def begin(self, there: NDArray[np.bool_]) -> None:
        """See the base."""
        self._canaries.begin(there)

    def scores(self, plan: Plan, records: Sequence[RoundRecord]) -> NDArray[np.float64]:
        """See the base."""
        found, steps = np.zeros(len(self._rates)), np.zeros(len(self._rates), dtype=np.int64)
        for place, along, length in self._canaries.seen:
            steps[place] += 1
            if length > 0.0:
                seen = np.array([[along / length]])
                found[place] += log_ratio(seen, self._multiplier / length, float(self._rates[place]))[0]
        for rate, count in zip(self._rates.tolist(), steps.tolist(), strict=True):
            self._dearest[rate] = max(count, self._dearest.get(rate, 0))
        return found

    def claimed(self, delta: float) -> float:
        """See the base: it is that of the canary whose rows pay most."""
        clients = [(Release(self._multiplier, rate, count),) for rate, count in self._dearest.items() if count]
        return dearest(clients, delta, self._section.accountant)


def target_of(section: Privacy | None, seed: int, transforms: Iterable[Transform]) -> Target:
    """Return what is to be tested of a config.

    Args:
        section: its ``privacy``.
        seed: its seed.
        transforms: its transforms.

    Raises:
        ConfigError: it claims nothing, or nothing that canaries can test.
    """
    if section is None:
        raise ConfigError("privacy: there is none, so nothing is claimed: give the section, or audit another config")
    if section.unit == "example":
        return OfRows(section, seed)
    if section.model != "local":
        return OfServer(section, seed)
    if any(transform.in_ring for transform in transforms):
        raise ConfigError(
            "transforms: secure_sum hides what each client sends, which is audited with privacy.model: local, and "
            "costs as much without it: leave it out"
        )
    return OfClients(section, seed)


def _drawn(seed: int, clients: Ints, count: int) -> Ints:
    """Draw the canaries of clients."""
    return np.sort(numpy_generator(seed, "canary", round=1).permutation(clients)[:count])


def _turn(plan: Plan, round: int) -> Ints:
    """Return the clients that may take part in a round: those whose turn it is, which is no secret, or all."""
    sizes = plan.task.data.sizes
    if isinstance(plan.sampler, InTurns):
        return plan.sampler.group(sizes, plan.task.seed, round)
    return np.arange(len(sizes))
