"""Where buffers stay with the clients, evaluations take statistics of the clients, and the model's bits stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fedray
from fedray.config.sections import BufferPolicy
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_run
from fedray.experiment.export import export_model
from fedray.experiment.given import GivenModel
from fedray.rundir.folder import RunFolder

ROWS = 60
DRAW = np.random.default_rng(5)
# Three clients whose inputs lie elsewhere each: with the first statistics, 0 and 1, nobody is told apart.
X = (5 + 3 * DRAW.standard_normal((3 * ROWS, 4)) + np.repeat([0, 4, 9], ROWS)[:, None]).astype("f4")
Y = (DRAW.permutation(3 * ROWS) % 2).astype("i8")
CLIENTS = np.repeat(range(3), ROWS)
TEST = X[::3], Y[::3]


def norm() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))


def config(buffers: BufferPolicy, *, every: int = 1, transforms: list[Any] | None = None, **options: Any) -> Config:
    args = fedray.TrainArgs(
        buffers=buffers, evaluate_every=every, evaluate_clients_every=every, **{"rounds": 3, "batch_size": 8, **options}
    )
    data = fedray.FederatedData.from_arrays(X, Y, CLIENTS, test=TEST).with_holdout(0.2, 0)
    parts = {"data": data, "model": GivenModel(norm), "transforms": transforms or []}
    return Config.bind("test", {}, {**args.layer(), "cluster": {"name": "inline"}, **parts})


def run(config: Config, folder: Path) -> list[RoundRecord]:
    return list(config.experiment(RunFolder(folder)).records())


@pytest.mark.parametrize("buffers", ["keep", "local"])
@pytest.mark.one_in(2)
def test_the_model_does_not_depend_on_its_evaluation(buffers: BufferPolicy, tmp_path: Path) -> None:
    often, never = (run(config(buffers, every=every), tmp_path / str(every)) for every in (1, 0))
    assert [record.model_sha256 for record in often] == [record.model_sha256 for record in never]


def trained(start: dict[str, Tensor], rows: np.ndarray[Any, Any]) -> nn.Module:
    """One full-batch step in plain PyTorch."""
    module = norm()
    module.load_state_dict(start)
    module.train()
    cross_entropy(module(torch.from_numpy(X[rows])), torch.from_numpy(Y[rows])).backward()
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.1 * parameter.grad)
    return module


def loss_of(parameters: dict[str, Tensor], statistics: dict[str, Tensor], x: Any, y: Any) -> float:
    module = norm()
    module.load_state_dict(parameters | {name: statistics[name] for name in statistics if "running" in name})
    with torch.no_grad():
        return float(cross_entropy(module.eval()(torch.from_numpy(x)), torch.from_numpy(y)))


@pytest.mark.parametrize("buffers", ["keep", "local"])
def test_one_round_against_plain_pytorch(buffers: BufferPolicy, tmp_path: Path) -> None:
    one = config(buffers, rounds=1, batch_size=None)
    data = one.data.load(0)
    # Rows of the training part of each client, by their values: the held-out ones are the others.
    held = [data.holdout(np.array([client]))[0].numpy() for client in range(3)]
    rows = [
        np.array([i for i in np.flatnonzero(client == CLIENTS) if not (X[i] == held[client]).all(axis=1).any()])
        for client in range(3)
    ]
    start = norm().state_dict()
    locals_ = [trained(start, part).state_dict() for part in rows]
    weight = [len(part) / sum(map(len, rows)) for part in rows]
    mean = {
        name: sum((w * s[name].double() for w, s in zip(weight, locals_, strict=True)), torch.zeros(())).float()
        for name in start
    }
    record = run(one, tmp_path / "run")[-1]
    assert record.test["loss"] == pytest.approx(loss_of(mean, mean, *TEST), rel=1e-5)
    views = {"clients_test": [mean] * 3} | ({"clients_personal": locals_} if buffers == "local" else {})
    for view, statistics in views.items():
        losses = []
        for client in range(3):
            x, y, _ = data.holdout(np.array([client]))
            losses.append(loss_of(mean, statistics[client], x.numpy(), y.numpy()))
        sizes = [len(part) for part in held]
        assert getattr(record, view)["loss"]["mean"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)
    assert bool(record.clients_personal) == (buffers == "local")


@pytest.mark.parametrize("buffers", ["keep", "local"])
@pytest.mark.one_in(2)
def test_after_a_resume_and_after_the_run_it_is_the_same(buffers: BufferPolicy, tmp_path: Path) -> None:
    whole = run(config(buffers), tmp_path / "whole")
    run(config(buffers, rounds=2), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    rest = list(config(buffers).experiment(folder, resume=True).records())
    for view in ("test", "clients_test", "clients_personal"):
        assert getattr(rest[-1], view) == getattr(whole[-1], view)
    assert evaluate_run(config(buffers), folder, None).numbers["loss"] == rest[-1].test["loss"]
    export_model(folder, tmp_path / "model.safetensors")
    exported, written = load_file(tmp_path / "model.safetensors"), load_file(folder.path / "model.safetensors")
    assert all(torch.equal(exported[name], written[name]) for name in written)
    assert float(exported["0.running_mean"].min()) > 3.0
    assert loss_of(exported, {}, *TEST) == pytest.approx(rest[-1].test["loss"], rel=1e-5)


def test_a_statistic_that_is_not_finite_costs_no_update(tmp_path: Path) -> None:
    class Runaway(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("seen", torch.zeros(2))
            self.seen: Tensor

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.seen.copy_(torch.tensor([float("inf"), 1.0]))
            out: Tensor = self.layer(x)
            return out

    data = fedray.FederatedData.from_arrays(X, Y, CLIENTS, test=TEST)
    args = fedray.TrainArgs(rounds=1, buffers="keep")
    model = fedray.FederatedModel(Runaway, None, cross_entropy)
    result = fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    assert result.history[0].clients == {"sampled": 3, "ok": 3, "failed": 0}
    assert result.model.state_dict()["seen"].tolist() == [0.0, 1.0]


def test_statistics_do_not_pass_by_a_clip(tmp_path: Path) -> None:
    noisy = config("local", transforms=[{"name": "clip"}, {"name": "gaussian"}])
    with pytest.raises(ConfigError, match=r"^evaluate: the model has batch statistics in 0, which local.buffers=local"):
        run(noisy, tmp_path / "run")
    run(config("local", every=0, transforms=[{"name": "clip"}, {"name": "gaussian"}]), tmp_path / "run")


def test_the_log_says_which_statistics(tmp_path: Path) -> None:
    run(config("local"), tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "local.buffers=local: a client's personal model has the client's own statistics" in log
