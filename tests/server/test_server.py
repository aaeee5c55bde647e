"""The server's half of every algorithm, with the optimizers that it goes with: checkpoints, buffers, schedules."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fedray
from fedray import optim
from fedray.algorithms import AFL, IFCA, FedAMP, FedAvg, FedAvgM, FedCM, FedDC, FedDyn, FedExP, FedProto, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.algorithms.lowrank import Rebased
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


def with_parts(round: int, config: Algorithm) -> Aggregate:
    """The mean of a round, with what the algorithm's clients, four with two classes, may send besides."""
    total = aggregate(round)
    delta = total["delta"]
    others = {name: torch.tensor([1.5]) for name in ("tau", "path", "square", "h")}
    others |= {"control": delta * 3.0, "gradient": delta * -2.0}
    others |= {"counts": torch.tensor([0.0, 2.5]), "sums": torch.arange(10.0) * round}
    if isinstance(config, AFL):
        others["loss"] = torch.tensor([0.1, 0.4, 0.0, 0.2]) * round
    if isinstance(config, Rebased):
        shares = torch.tensor([0.3, 0.0, 0.2, 0.5])
        return replace(total, parts={"delta": torch.outer(shares, delta)}, shares={"delta": shares})
    if isinstance(config, IFCA):
        shares = torch.linspace(0.5, 1.5, config.clusters) / config.clusters
        return replace(total, parts={"delta": torch.outer(shares, delta)}, shares={"delta": shares})
    return replace(total, parts={**total.parts, **others})


@EVERY_ROW
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.one_in(4)
def test_a_restored_server_goes_on_with_the_same_bits(
    config: Algorithm, optimizer: ServerOptimizer | None, before: int
) -> None:
    vector = start()
    server = started(config, vector, optimizer)
    for round in range(1, before + 1):
        config.step(server, with_parts(round, config))
    saved = {name: tensor.clone() for name, tensor in server.state_dict().items()}
    other = started(config, vector.clone(), optimizer)
    other.load_state_dict(saved)
    for one in (server, other):
        for round in range(before + 1, before + 4):
            config.step(one, with_parts(round, config))
    assert torch.equal(server.vector, other.vector)
    ends, restored = server.state_dict(), other.state_dict()
    assert ends.keys() == restored.keys() == saved.keys()
    assert all(torch.equal(ends[name], restored[name]) for name in ends)


@EVERY_ROW
def test_the_mean_is_left_as_it_is(config: Algorithm, optimizer: ServerOptimizer | None) -> None:
    total = with_parts(1, config)
    before = {name: part.clone() for name, part in total.parts.items()}
    config.step(started(config, start(), optimizer), total)
    assert all(torch.equal(total.parts[name], before[name]) for name in before)


@every("config", ALGORITHMS)
def test_an_algorithm_says_whether_it_gives_its_update_to_the_server_optimizer(config: Algorithm) -> None:
    server = started(config, start())
    server.enter(1)
    config.step(server, with_parts(1, config))
    assert server.moved is config.uses_server
    assert config.uses_server is not isinstance(config, FedAMP | FedDC | FedDyn | FedExP | IFCA | FedProto | Rebased)


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


def trained(folder: Path, rounds: int, resume: bool = False, **options: Any) -> fedray.Result:
    model, data = fedray.FederatedModel("mlp", optim.SGD(0.1)), class_problem().data
    args = fedray.TrainArgs(rounds=rounds, tracking=[], **options.pop("args", {}))
    return fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False, resume=resume, **options)


def test_a_resume_with_more_rounds_says_that_the_servers_curve_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = fedray.server.Adam(lr=0.2, lr_schedule="cosine")
    result = trained(tmp_path, 2, server=server)
    assert [record.metrics["adam"]["lr"] for record in result.history] == [0.2, 0.1]
    assert "server learning rate: 0.2 in round 1, 0.1 in round 2; from 0.1 to 0.2" in (tmp_path / "log.txt").read_text()
    with caplog.at_level(logging.WARNING):
        trained(tmp_path, 4, resume=True, server=server)
    told = "rounds: 2 -> 4: the schedule of the server's learning rate is spread over all rounds, so that round 3 takes"
    assert any(record.getMessage().startswith(told) for record in caplog.records)


def test_a_callback_hears_what_a_step_tells_and_a_run_may_stop_by_it(tmp_path: Path) -> None:
    heard: list[float] = []
    by_step = {"stop_metric": "metrics.fedexp.step", "stop_mode": "min", "stop_patience": 2}
    result = trained(
        tmp_path / "a",
        20,
        algorithm=fedray.FedExP(),
        args=by_step,
        callbacks=[lambda record: heard.append(record.metrics["fedexp"]["step"])],
    )
    assert heard == [record.metrics["fedexp"]["step"] for record in result.history]
    best = heard.index(min(heard))
    assert len(heard) == best + 3 < 20
    with pytest.raises(fedray.ConfigError, match=r"^stop\.metric=metrics\.fedexp\.step: no record will have it"):
        trained(tmp_path / "b", 20, args=by_step)


def test_an_algorithm_of_the_old_contract_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match=r"no ServerRule any more; .* see docs/write-your-own\.md$"):
        getattr(fedray.parts, "ServerRule")  # noqa: B009

    @dataclass(frozen=True)
    class Old(FedAvg):
        def server(self) -> Any:
            return object()

    with pytest.raises(fedray.ConfigError, match=r"^algorithm: Old\.server\(\) returns object; .*write-your-own\.md$"):
        trained(tmp_path, 1, algorithm=Old())


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            {"model": torch.zeros(3)},
            "broadcasts model, torch.float32 [3]; it must be a float32 vector, of another",
        ),
        ({"x": torch.zeros(3, 2)}, "broadcasts x, torch.float32 [3, 2]; it must be a float32 vector"),
        ({"x": torch.zeros(3, dtype=torch.int64)}, "broadcasts x, torch.int64 [3]; it must be a float32 vector"),
        ({"x": 1.0}, "the server's half of Sending fails: AttributeError"),
    ],
)
def test_what_no_client_can_receive_is_refused_before_the_run(sent: Any, words: str, tmp_path: Path) -> None:
    class Sending(FedAvg):
        def broadcast(self, s: Server) -> Parts:
            return sent  # type: ignore[no-any-return]

    with pytest.raises(fedray.ConfigError, match=re.escape(words)):
        trained(tmp_path / "run", 1, algorithm=Sending())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kind", "name"), [("vector", "the model"), ("state", "turns"), ("another", "turns")])
def test_a_broadcast_that_changes_what_is_kept_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    class Turning(FedAvg):
        def start(self, s: Server) -> Parts:
            return {"turns": torch.zeros(1)}

        def broadcast(self, s: Server) -> Parts:
            if kind == "another":
                s.state["turns"] = s.state["turns"] + 1.0
            else:
                {"vector": s.vector, "state": s.state["turns"]}[kind].add_(1.0)
            return {"turns": s.state["turns"]}

    with pytest.raises(fedray.ConfigError, match=rf"^algorithm: the broadcast of Turning changes {name}; .* in step$"):
        trained(tmp_path / "run", 1, algorithm=Turning())
