"""The clients' learning rate of each round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from torch.optim import Optimizer

from fedray.core.errors import ConfigError, one_line
from fedray.optim.schedules import Constant, LRSchedule


@dataclass(frozen=True)
class LearningRate:
    """The learning rates of a run: those that the client optimizer is made with, moved by the schedule.

    >>> from fedray.optim import Exponential
    >>> LearningRate(Exponential(gamma=0.5), rounds=3, made_with=0.1).of(2)
    0.05

    Args:
        schedule: the schedule.
        rounds: rounds of the run in all.
        made_with: the rate of the optimizer's first parameter group as it is made; None: not known, or it has none.
    """

    schedule: LRSchedule = field(default_factory=Constant)
    rounds: int = 1
    made_with: float | None = None

    def of(self, round: int) -> float | None:
        """Return the rate of the first parameter group in a round."""
        return None if self.made_with is None else self.schedule.rate(self.made_with, round, self.rounds)

    def enter(self, groups: Iterable[dict[str, Any]], round: int, own: float | None = None) -> None:
        """Give each parameter group of a new optimizer the rate of a round.

        Args:
            groups: the parameter groups.
            round: round number; past the last one, which an evaluation after it is, the rate stays.
            own: the rate of a client of its own, that of the first group, to which those of others keep their
                ratio.  Default: that of all clients.
        """
        first: float | None = None
        last = min(round, self.rounds)
        for group in groups:
            made_with = group.get("lr")
            if own is not None and made_with is not None:
                first = float(made_with) if first is None else first
                group["lr"] = made_with = own if made_with == first else own * float(made_with) / first
            rate = None if made_with is None else self.schedule.rate(float(made_with), last, self.rounds)
            if rate != made_with:  # a tensor stays one where nothing changes
                group["lr"] = rate

    @property
    def moves(self) -> bool:
        """True where the schedule may give two rounds different rates."""
        return self.made_with is not None and self.schedule != Constant()

    @property
    def words(self) -> str:
        """The rates of the run in words; empty where there is one."""
        if self.made_with is None or not self.moves:
            return ""
        rates = [self.schedule.rate(self.made_with, round, self.rounds) for round in range(1, self.rounds + 1)]
        ends = f"{rates[0]:.4g} in round 1, {rates[-1]:.4g} in round {self.rounds}"
        return f"{ends}; from {min(rates):.4g} to {max(rates):.4g}"

    def stretched(self, rounds: int, first: int, what: str = "the learning rate") -> str:
        """Say what another number of ``rounds`` before has made of the rates from ``first`` on; empty: nothing."""
        before = replace(self, rounds=rounds)
        changed = [round for round in range(first, self.rounds + 1) if before.of(round) != self.of(round)]
        if not changed:
            return ""
        one = changed[0]
        return (
            f"rounds: {rounds} -> {self.rounds}: the schedule of {what} is spread over all rounds, so that "
            f"round {one} takes {self.of(one):.4g} instead of {before.of(one):.4g}"
        )


def scheduled(
    schedule: LRSchedule, optimizer: Optimizer, rounds: int, by_client: Mapping[str, float] = MappingProxyType({})
) -> LearningRate:
    """Return the learning rates of a run with such an optimizer.

    Args:
        schedule: the schedule.
        optimizer: the optimizer, as it is made.
        rounds: rounds of the run in all.
        by_client: the rates of clients that have one of their own, by name.

    Raises:
        ConfigError: the schedule raises, or gives a rate that is no number above 0, or the optimizer has no rate.
    """
    rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
    if schedule != Constant() and len(rates) < len(optimizer.param_groups):
        raise ConfigError(f"local.lr_schedule: the optimizer {type(optimizer).__name__} has no lr to change")
    for made_with in dict.fromkeys(rate for rate in rates if rate > 0.0):
        check_rates(schedule, made_with, rounds, "local.lr_schedule")
    for name, own in by_client.items():
        if len(rates) < len(optimizer.param_groups) or not all(rates):
            raise ConfigError(
                f"local.by_client.{name}.lr: the optimizer {type(optimizer).__name__} has no lr to change"
            )
        check_rates(schedule, own, rounds, f"local.lr_schedule of local.by_client.{name}")
    return LearningRate(schedule, rounds, rates[0] if rates else None)


def check_rates(schedule: LRSchedule, made_with: float, rounds: int, key: str) -> None:
    """Raise ConfigError, which names ``key``, if a schedule raises or gives a rate that is no number above 0."""
    for round in range(1, rounds + 1):
        try:
            rate = schedule.rate(made_with, round, rounds)
            useful = 0.0 < rate < math.inf
        except Exception as error:
            raise ConfigError(f"{key}: {type(schedule).__name__} failed: {one_line(error)}") from error
        if not useful:
            raise ConfigError(
                f"{key}: the learning rate of round {round} of {rounds} would be {rate}, it must be above 0; "
                "give it a lowest rate, more rounds to fall in, or end the run before"
            )
