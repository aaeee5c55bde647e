"""Schedules against torch's own, round by round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torchs

from fedray.config.registry import bind_part, dump
from fedray.core.errors import ConfigError
from fedray.optim import Constant, Cosine, Exponential, Linear, LRSchedule, Step, lr_schedules

ROUNDS = 40
PAIRS: list[tuple[LRSchedule, Callable[[Optimizer, int], torchs.LRScheduler]]] = [
    (Constant(), lambda o, rounds: torchs.ConstantLR(o, 1.0, 1)),
    (Step(7), lambda o, rounds: torchs.StepLR(o, 7)),
    (Step(3, gamma=0.5), lambda o, rounds: torchs.StepLR(o, 3, 0.5)),
    (Exponential(0.93), lambda o, rounds: torchs.ExponentialLR(o, 0.93)),
    (Cosine(), lambda o, rounds: torchs.CosineAnnealingLR(o, rounds)),
    (Cosine(T_max=9, eta_min=0.01), lambda o, rounds: torchs.CosineAnnealingLR(o, 9, 0.01)),
    (Linear(), lambda o, rounds: torchs.LinearLR(o, 1.0, 0.0, rounds)),
    (Linear(0.25, 0.75, 11), lambda o, rounds: torchs.LinearLR(o, 0.25, 0.75, 11)),
]


def rates_of(optimizer: Optimizer, scheduler: torchs.LRScheduler, rounds: int) -> list[float]:
    """The rate that torch gives each epoch."""
    found = []
    for _ in range(rounds):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def plain(lr: float = 0.3) -> Optimizer:
    return SGD([torch.zeros(1, requires_grad=True)], lr=lr)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[repr(ours) for ours, _ in PAIRS])
@pytest.mark.parametrize("warmup", [0, 1, 6])
def test_a_round_has_the_rate_that_torch_gives_the_epoch(ours: LRSchedule, theirs: Any, warmup: int) -> None:
    optimizer = plain()
    after = theirs(optimizer, ROUNDS - warmup)
    if warmup:
        rise = torchs.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup)
        after = torchs.SequentialLR(optimizer, [rise, theirs(optimizer, ROUNDS - warmup)], [warmup])
    expected = rates_of(optimizer, after, ROUNDS)
    schedule = dataclasses.replace(ours, warmup=warmup)
    found = [schedule.rate(0.3, round, ROUNDS) for round in range(1, ROUNDS + 1)]
    # torch multiplies its way from epoch to epoch, and rounds each time.
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_every_schedule_has_an_oracle() -> None:
    assert {type(ours) for ours, _ in PAIRS} == set(lr_schedules.values())


@given(st.sampled_from([ours for ours, _ in PAIRS]), st.integers(1, 99), st.integers(0, 20), st.floats(1e-6, 10.0))
def test_a_rate_is_a_function_of_the_round_and_never_above_the_optimizers(
    schedule: LRSchedule, round: int, warmup: int, lr: float
) -> None:
    one = dataclasses.replace(schedule, warmup=warmup)
    assert one.rate(lr, round, 100) == one.rate(lr, round, 100) <= max(lr, getattr(one, "eta_min", 0.0))
    if round > warmup:
        assert one.rate(lr, round, 100) == schedule.rate(lr, round - warmup, 100 - warmup)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "constant", "warmup": -1}, r"warmup=-1: it must be at least 0 rounds"),
        ({"name": "step", "step_size": 0}, r"step_size=0: it must be at least 1 round"),
        ({"name": "step", "step_size": 3, "gamma": 0.0}, r"gamma=0\.0: it must be above 0"),
        ({"name": "exponential", "gamma": -1.0}, r"gamma=-1\.0"),
        ({"name": "cosine", "T_max": 0}, r"T_max=0: it must be at least 1 round, or null"),
        ({"name": "cosine", "eta_min": -0.1}, r"eta_min=-0\.1: it must be at least 0"),
        ({"name": "linear", "start_factor": 0.0}, r"start_factor=0\.0: it must be above 0 and at most 1"),
        ({"name": "linear", "end_factor": 1.5}, r"end_factor=1\.5: it must be from 0 to 1"),
        ({"name": "linear", "total_iters": 0}, r"total_iters=0"),
        ({"name": "step"}, r"a value is needed"),
        ({"name": "cosin"}, r"did you mean 'cosine'"),
        ({"name": "cosine", "t_max": 3}, r"did you mean 'T_max'"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^local\.lr_schedule.*{message}"):
        bind_part(lr_schedules, options, "local.lr_schedule")


@pytest.mark.parametrize("schedule", [ours for ours, _ in PAIRS], ids=repr)
def test_it_goes_into_a_file_and_back(schedule: LRSchedule) -> None:
    assert bind_part(lr_schedules, dump(schedule), "local.lr_schedule") == schedule
