"""The server's half of every algorithm, with the optimizers that it goes with: checkpoints, buffers, schedules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fedray import optim
from fedray.algorithms import FedAvg, FedAvgM, FedCM, FedDC, FedDyn, FedExP, Scaffold
from fedray.algorithms.base import AlgorithmConfig
from fedray.core.layout import Layout
from fedray.core.messages import BUFFERS, Aggregate, Parts
from fedray.server import SGD, Adagrad, Adam, Momentum, Server, ServerOptimizer, server_optimizers
from tests.helpers import class_problem, federation
from tests.laws.parts import ALGORITHMS, every
from tests.server.rounds import aggregate, start, started

SERVERS: list[ServerOptimizer] = [*(kind() for kind in server_optimizers.values()), Adam(variant="torch")]
SERVERS += [Adagrad(variant="torch"), Momentum(nesterov=True)]
ROWS = [(config, None) for config in ALGORITHMS]
ROWS += [(config, server) for config in (FedAvg(), Scaffold(), FedCM()) for server in SERVERS]  # type: ignore[misc]
EVERY_ROW = pytest.mark.parametrize(("config", "optimizer"), ROWS, ids=[f"{c.name}-{s}" for c, s in ROWS])


def with_parts(round: int) -> Aggregate:
    """The mean of a round, with what every algorithm's clients may send besides."""
    total = aggregate(round)
    others = {name: torch.tensor([1.5]) for name in ("tau", "path", "square", "h")}
    return replace(total, parts={**total.parts, "control": total["delta"] * 3.0, **others})


@EVERY_ROW
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_restored_server_goes_on_with_the_same_bits(
    config: AlgorithmConfig, optimizer: ServerOptimizer | None, before: int
) -> None:
    vector = start()
    server = started(config, vector, optimizer)
    for round in range(1, before + 1):
        config.step(server, with_parts(round))
    saved = {name: tensor.clone() for name, tensor in server.state_dict().items()}
    other = started(config, vector.clone(), optimizer)
    other.load_state_dict(saved)
    for one in (server, other):
        for round in range(before + 1, before + 4):
            config.step(one, with_parts(round))
    assert torch.equal(server.vector, other.vector)
    ends, restored = server.state_dict(), other.state_dict()
    assert ends.keys() == restored.keys() == saved.keys()
    assert all(torch.equal(ends[name], restored[name]) for name in ends)


@EVERY_ROW
def test_the_mean_is_left_as_it_is(config: AlgorithmConfig, optimizer: ServerOptimizer | None) -> None:
    total = with_parts(1)
    before = {name: part.clone() for name, part in total.parts.items()}
    config.step(started(config, start(), optimizer), total)
    assert all(torch.equal(total.parts[name], before[name]) for name in before)


@every("config", ALGORITHMS)
def test_an_algorithm_says_whether_it_gives_its_update_to_the_server_optimizer(config: AlgorithmConfig) -> None:
    server = started(config, start())
    server.enter(1)
    config.step(server, with_parts(1))
    assert server.moved is config.uses_server
    assert config.uses_server is not isinstance(config, FedDC | FedDyn | FedExP)


class Keeping(FedAvg):
    """Keeps a tensor of the name that momentum has for its own."""

    def start(self, s: Server) -> Parts:
        return {"momentum_buffer": torch.ones(2)}


def test_equal_names_of_algorithm_and_optimizer_are_told_apart() -> None:
    server = started(Keeping(), start(), Momentum())
    server.move(torch.ones(6))
    assert {name: len(kept) for name, kept in server.state_dict().items()} == {
        "momentum_buffer": 2,
        "momentum.momentum_buffer": 6,
    }
    other = started(Keeping(), start(), Momentum())
    other.load_state_dict(server.state_dict())
    assert torch.equal(other.moments["momentum_buffer"], server.moments["momentum_buffer"])


@pytest.mark.parametrize("optimizer", SERVERS, ids=repr)
def test_buffers_move_by_their_mean_whatever_the_optimizer(optimizer: ServerOptimizer, tmp_path: Path) -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))

    problem = class_problem((8, 6), model_fn=model)
    ends = [federation(problem, tmp_path / str(i), server=one, rounds=1) for i, one in enumerate((optimizer, SGD()))]
    layout = Layout.of(model())
    for one in ends:
        one.run()
    assert torch.equal(*(one.vector[layout.spans[BUFFERS]] for one in ends))
    assert torch.equal(*(one.vector[: layout.trained] for one in ends)) is (optimizer in (SGD(), Momentum()))


def test_the_rate_of_a_round_is_the_schedules_before_and_after_a_resume(tmp_path: Path) -> None:
    problem = class_problem()
    halving = SGD(lr_schedule=optim.Exponential(gamma=0.5))
    whole = federation(problem, tmp_path / "a", server=halving, rounds=3)
    whole.run()
    parts = federation(problem, tmp_path / "b", server=halving, rounds=3)
    parts.run(1)
    resumed = federation(problem, tmp_path / "b", server=halving, rounds=3)
    resumed.restore(parts.save())
    resumed.run()
    assert torch.equal(whole.vector, resumed.vector)
    by_hand = federation(problem, tmp_path / "c", rounds=3)
    for round in range(1, 4):
        before = by_hand.vector.clone()
        by_hand.run(round)
        by_hand.vector.copy_(before + (by_hand.vector - before) * 0.5 ** (round - 1))
    assert torch.allclose(whole.vector, by_hand.vector, atol=1e-6)
    assert not torch.allclose(whole.vector, before, atol=1e-4)


def test_a_preset_is_fedavg_with_its_optimizer(tmp_path: Path) -> None:
    problem = class_problem()
    preset = federation(problem, tmp_path / "a", FedAvgM(server_lr=0.5, momentum=0.7))
    section = federation(problem, tmp_path / "b", FedAvg(), server=Momentum(0.5, 0.7))
    for one in (preset, section):
        one.run()
    assert torch.equal(preset.vector, section.vector)
