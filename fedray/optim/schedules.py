"""Schedules: the clients' learning rate as a function of the round."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from fedray.config.bounds import check_above_0, check_at_least_0
from fedray.config.registry import Registry


@dataclass(frozen=True)
class LRSchedule(ABC):
    """The base of schedules; a round takes the place that an epoch has in ``torch.optim.lr_scheduler``.

    Rounds ``k = 1 .. warmup`` take ``k / (warmup + 1)`` of the optimizer's learning rate; the schedule begins in the
    round after them.

    >>> @dataclass(frozen=True)
    ... class InverseRoot(LRSchedule):
    ...     def at(self, lr, t, rounds):
    ...         return lr / (1 + t) ** 0.5
    >>> [InverseRoot(warmup=1).rate(1.0, round, rounds=5) for round in (1, 2, 5)]
    [0.5, 1.0, 0.5]

    Args:
        warmup: rounds in which the rate rises linearly, at least 0.
    """

    warmup: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"warmup={self.warmup}: it must be at least 0 rounds")

    @abstractmethod
    def at(self, lr: float, t: int, rounds: int) -> float:
        """Return the learning rate of a round after the warmup.

        Args:
            lr: the rate that the optimizer is made with.
            t: rounds since the warmup: 0 in the first one after it.
            rounds: rounds of the run after the warmup, at least 1.
        """

    def rate(self, lr: float, round: int, rounds: int) -> float:
        """Return the learning rate of a round, a function of these numbers alone.

        Args:
            lr: the rate that the optimizer is made with.
            round: round number, from 1.
            rounds: rounds of the run in all.
        """
        if round <= self.warmup:
            return lr * round / (self.warmup + 1)
        return self.at(lr, round - 1 - self.warmup, max(1, rounds - self.warmup))


lr_schedules = Registry(
    "learning rate schedule", package="fedray.optim", base=LRSchedule, such_as='{"name": "cosine", "warmup": 5}'
)


@lr_schedules.register("constant")
@dataclass(frozen=True)
class Constant(LRSchedule):
    """The same learning rate in each round, after the warmup.

    >>> [Constant(warmup=3).rate(1.0, round, rounds=9) for round in range(1, 6)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def at(self, lr: float, t: int, rounds: int) -> float:
        return lr


@lr_schedules.register("step")
@dataclass(frozen=True)
class Step(LRSchedule):
    """The learning rate times ``gamma`` every ``step_size`` rounds (torch's StepLR).

    >>> [Step(step_size=2, gamma=0.5).rate(1.0, round, rounds=5) for round in range(1, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25]

    Args:
        step_size: rounds from one fall to the next, at least 1.
        gamma: factor of each, above 0.
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size < 1:
            raise ValueError(f"step_size={self.step_size}: it must be at least 1 round")
        check_above_0(gamma=self.gamma)

    def at(self, lr: float, t: int, rounds: int) -> float:
        return float(lr * self.gamma ** (t // self.step_size))


@lr_schedules.register("exponential")
@dataclass(frozen=True)
class Exponential(LRSchedule):
    """The learning rate times ``gamma`` with each round (torch's ExponentialLR).

    >>> [Exponential(gamma=0.5).rate(1.0, round, rounds=3) for round in range(1, 4)]
    [1.0, 0.5, 0.25]

    Args:
        gamma: factor of each round, above 0.
    """

    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_0(gamma=self.gamma)

    def at(self, lr: float, t: int, rounds: int) -> float:
        return float(lr * self.gamma**t)


@lr_schedules.register("cosine")
@dataclass(frozen=True)
class Cosine(LRSchedule):
    """Half a cosine from the learning rate to ``eta_min`` (torch's CosineAnnealingLR; Loshchilov, arXiv:1608.03983).

    ``eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2``, ``t`` rounds after the first one.  Beyond ``T_max`` it
    rises again, as torch's does.  Without ``T_max`` it falls over all rounds of the run: more rounds are another curve.

    >>> [round(Cosine().rate(1.0, number, rounds=4), 3) for number in range(1, 5)]
    [1.0, 0.854, 0.5, 0.146]

    Args:
        T_max: rounds from the learning rate to ``eta_min``, at least 1; default: those of the run after the warmup.
        eta_min: the lowest rate, at least 0.
    """

    T_max: int | None = None
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T_max is not None and self.T_max < 1:
            raise ValueError(f"T_max={self.T_max}: it must be at least 1 round, or null for all rounds")
        check_at_least_0(eta_min=self.eta_min)

    def at(self, lr: float, t: int, rounds: int) -> float:
        return self.eta_min + (lr - self.eta_min) * (1.0 + math.cos(math.pi * t / (self.T_max or rounds))) / 2.0


@lr_schedules.register("linear")
@dataclass(frozen=True)
class Linear(LRSchedule):
    """A straight line from ``start_factor`` to ``end_factor`` times the learning rate (torch's LinearLR).

    torch's defaults make a warmup of it; here, where ``warmup`` is apart, it falls to 0 over all rounds of the run, and
    reaches 0 in the round after the last.  More rounds are another line; ``total_iters`` fixes it.

    >>> [Linear().rate(1.0, round, rounds=4) for round in range(1, 5)]
    [1.0, 0.75, 0.5, 0.25]

    Args:
        start_factor: factor of the first round after the warmup, above 0 and at most 1.
        end_factor: factor after ``total_iters`` rounds and from then on, from 0 to 1.
        total_iters: rounds from the one to the other, at least 1; default: those of the run after the warmup.
    """

    start_factor: float = 1.0
    end_factor: float = 0.0
    total_iters: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.start_factor <= 1.0:
            raise ValueError(f"start_factor={self.start_factor}: it must be above 0 and at most 1")
        if not 0.0 <= self.end_factor <= 1.0:
            raise ValueError(f"end_factor={self.end_factor}: it must be from 0 to 1")
        if self.total_iters is not None and self.total_iters < 1:
            raise ValueError(f"total_iters={self.total_iters}: it must be at least 1 round, or null for all rounds")

    def at(self, lr: float, t: int, rounds: int) -> float:
        whole = self.total_iters or rounds
        return lr * (self.start_factor + (self.end_factor - self.start_factor) * min(t, whole) / whole)
