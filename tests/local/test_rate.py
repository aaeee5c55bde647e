"""The learning rate of a round is that of the steps, of the rule and of the record, alone and in a stack."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedray
from fedray.algorithms import FedAvg, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.messages import Broadcast
from fedray.local.rate import LearningRate, scheduled
from fedray.local.stacking import Stack
from fedray.optim import SGD, Constant, Cosine, Exponential, Linear, LRSchedule
from fedray.tracking.tensorboard import scalars
from tests.helpers import class_problem, local_task, relative, train

PROBLEM = class_problem((7, 3, 12, 9), test=20)


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold()])
@pytest.mark.parametrize("stack", [4, "off"])
def test_a_round_trains_as_with_an_optimizer_of_its_rate(algorithm: Algorithm, stack: Stack) -> None:
    """Bit for bit; SCAFFOLD divides by the rate, so its control variates show which one it has seen."""
    task = local_task(PROBLEM, stack=stack, optimizer=SGD(0.4, momentum=0.5), program=algorithm)
    halved = replace(task, rate=LearningRate(Exponential(gamma=0.5), rounds=9))
    quarter = replace(task, optimizer_fn=SGD(0.1, momentum=0.5))
    vector = task.layout.pack(dict(task.model_fn().state_dict()))
    state = {name: torch.full((4, task.layout.trained), 0.01) for name in task.profile.keeps}
    sent = {name: torch.full((task.layout.trained,), 0.02) for name in task.receives}
    down = Broadcast(3, {"model": vector, **sent}, 1.0)
    one, other = (train(t, [2, 3, 0, 1], down, state) for t in (halved, quarter))
    assert one.parts.keys() == other.parts.keys()
    for name, part in one.parts.items():
        assert torch.equal(part, other.parts[name]), name
    for name, kept in one.state.items():
        assert torch.equal(kept, other.state[name]), name


def test_stacked_is_alone_under_a_schedule() -> None:
    rate = LearningRate(Cosine(warmup=2), rounds=5)
    tasks = [replace(local_task(PROBLEM, stack=stack), rate=rate) for stack in (4, "off")]
    vector = tasks[0].layout.pack(dict(PROBLEM.model_fn().state_dict()))
    stacked, alone = (train(task, [2, 3, 0, 1], Broadcast(2, {"model": vector}, 1.0)) for task in tasks)
    assert relative(stacked.parts["delta"], alone.parts["delta"]) <= 1e-5


@pytest.mark.parametrize("stack", [2, "off"])
def test_clients_with_a_rate_of_their_own_train_as_if_it_were_that_of_all(stack: Stack) -> None:
    """Bit for bit, under a schedule; SCAFFOLD divides by it."""
    rate = LearningRate(Exponential(gamma=0.5), rounds=9)
    args = LocalSection(1, 4, by_client={"1": {"lr": 0.05}, "3": {"lr": 0.05}})
    task = replace(local_task(PROBLEM, stack=stack, args=args, optimizer=SGD(0.4), program=Scaffold()), rate=rate)
    vector = task.layout.pack(dict(task.model_fn().state_dict()))
    down = Broadcast(3, {"model": vector, "control": torch.full((task.layout.trained,), 0.02)}, 1.0)
    for clients, lr in (([2, 0], 0.4), ([3, 1], 0.05)):
        state = {"control": torch.full((2, task.layout.trained), 0.01)}
        alike = replace(task, optimizer_fn=SGD(lr), args=LocalSection(1, 4))
        one, other = (train(t, clients, down, state) for t in (task, alike))
        for name, part in one.parts.items():
            assert torch.equal(part, other.parts[name]), name
    if stack == 2:
        with pytest.raises(RuntimeError, match="a block has clients of one learning rate"):
            train(task, [2, 1], down, {"control": torch.zeros(2, task.layout.trained)})


def test_other_groups_keep_their_ratio_to_a_clients_own_rate() -> None:
    optimizer = groups(0.1, 0.3, 0.1)
    LearningRate(Exponential(gamma=0.5), rounds=9).enter(optimizer.param_groups, 2, own=0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.3, 0.1])


def groups(*rates: float | torch.Tensor) -> torch.optim.Optimizer:
    made = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates]
    return torch.optim.SGD(made, lr=1.0)


def test_every_parameter_group_has_its_own_rate_moved() -> None:
    optimizer = groups(0.4, 0.0, 8.0)
    LearningRate(Exponential(gamma=0.5), rounds=9).enter(optimizer.param_groups, 3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.0, 2.0]


def test_without_a_schedule_an_optimizer_stays_as_it_is() -> None:
    rate = torch.tensor(0.1)
    optimizer = groups(rate, 0.3)
    LearningRate().enter(optimizer.param_groups, 3)
    assert optimizer.param_groups[0]["lr"] is rate
    LearningRate().enter([{"params": []}], 3)


class Unrated(torch.optim.Optimizer):
    """Knows no rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


@dataclass(frozen=True)
class Wild(LRSchedule):
    """Gives what it is told to."""

    value: Any = math.nan

    def at(self, lr: float, t: int, rounds: int) -> float:
        return float(self.value)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Cosine(T_max=4), r"the learning rate of round 5 of 9 would be 0\.0, it must be above 0"),
        (Linear(total_iters=8), r"round 9 of 9 would be 0\.0"),
        (Wild(), "round 1 of 9 would be nan"),
        (Wild(math.inf), "round 1 of 9 would be inf"),
        (Wild(-1), "round 1 of 9 would be -1"),
        (Wild("much"), "Wild failed: ValueError"),
    ],
)
def test_a_rate_that_trains_nothing_is_refused_before_the_run(schedule: LRSchedule, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^local\.lr_schedule: .*{message}"):
        scheduled(schedule, groups(0.1), 9)


def test_an_optimizer_without_a_rate_has_no_schedule() -> None:
    optimizer = Unrated([torch.zeros(1, requires_grad=True)])
    assert scheduled(Constant(), optimizer, 3).of(1) is None
    with pytest.raises(ConfigError, match=r"^local\.lr_schedule: the optimizer Unrated has no lr to change"):
        scheduled(Constant(warmup=1), optimizer, 3)


def test_it_is_said_in_words() -> None:
    assert scheduled(Constant(), groups(0.1), 9).words == ""
    words = scheduled(Constant(warmup=1), groups(0.1), 9).words
    assert words == "0.05 in round 1, 0.1 in round 9; from 0.05 to 0.1"


# A whole run


def run(folder: Path, rounds: int, schedule: Any = "constant", **options: Any) -> fedray.Result:
    model = fedray.FederatedModel(lambda: nn.Linear(6, 3), lambda p: torch.optim.SGD(p, lr=0.4))
    args = fedray.TrainArgs(rounds=rounds, lr_schedule=schedule, tracking=[], checkpoint_every=1, keep=9)
    return fedray.train(model, PROBLEM.data, args, cluster="inline", run_dir=folder, progress=False, **options)


def shas(result: fedray.Result) -> list[str | None]:
    return [record.model_sha256 for record in result.history]


def test_the_rate_is_in_the_record_and_a_resumed_run_has_the_same_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(tmp_path / "whole", 4, {"name": "exponential", "gamma": 0.5, "warmup": 1})
    rates = [json.loads(line)["train"]["lr"] for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert rates == [0.2, 0.4, 0.2, 0.1]
    assert scalars(whole.history[2])["train/lr"] == 0.2
    assert "learning rate: 0.2 in round 1, 0.1 in round 4; from 0.1 to 0.4" in (tmp_path / "whole/log.txt").read_text()
    run(tmp_path / "parts", 2, Exponential(gamma=0.5, warmup=1))
    with caplog.at_level(logging.WARNING):
        resumed = run(tmp_path / "parts", 4, Exponential(gamma=0.5, warmup=1), resume=True)
    assert shas(resumed) == shas(whole)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not told, "more rounds change nothing of this schedule"
    assert shas(run(tmp_path / "plain", 4)) != shas(whole)


def test_a_resume_with_more_rounds_says_that_the_curve_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, 2, "cosine")
    with caplog.at_level(logging.WARNING):
        run(tmp_path, 4, "cosine", resume=True)
    told = "rounds: 2 -> 4: the schedule of the learning rate is spread over all rounds, so that round 3 takes 0.2"
    assert any(record.getMessage().startswith(told) for record in caplog.records)


def test_a_rate_of_a_client_needs_an_optimizer_that_has_one_and_a_schedule_that_leaves_one() -> None:
    unrated = Unrated([torch.zeros(1, requires_grad=True)])
    with pytest.raises(ConfigError, match=r"^local\.by_client\.north\.lr: the optimizer Unrated has no lr to change"):
        scheduled(Constant(), unrated, 3, {"north": 0.1})

    @dataclass(frozen=True)
    class Less(LRSchedule):
        def at(self, lr: float, t: int, rounds: int) -> float:
            return lr - 0.1 * t

    with pytest.raises(ConfigError, match=r"^local\.lr_schedule of local\.by_client\.north: .* would be -0.*above 0"):
        scheduled(Less(), groups(0.5), 3, {"north": 0.15})
