"""The clients of a run that is over: evaluated from a checkpoint as the run did, or a reason why they are not."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.core.record import VIEWS
from fedray.experiment.build import Config
from fedray.experiment.evaluate import evaluate_run
from fedray.experiment.evaluate_clients import each_json, evaluate_clients, intervals_told
from fedray.experiment.export import export_model, lacking
from fedray.experiment.given import GivenModel
from fedray.metrics import Sensitivity
from fedray.metrics.intervals import shown, wilson
from fedray.rundir.client_table import ClientRows
from fedray.rundir.each_client import MOST_SHOWN
from fedray.rundir.folder import RunFolder
from tests.helpers import Problem, class_problem, seeded

PROBLEM = class_problem((7, 3, 12, 9, 6, 5), test=20, holdout=0.3)
ARGS = fedray.TrainArgs(
    rounds=3,
    batch_size=6,
    evaluate_clients_every=1,
    evaluate_finetune={"steps": 2},
    checkpoint_every=1,
    keep=3,
)


def config_of(algorithm: Any, problem: Problem = PROBLEM, args: fedray.TrainArgs = ARGS, **model: Any) -> Config:
    parts = {"data": problem.data, "model": GivenModel(problem.model_fn), "algorithm": algorithm}
    content = {**args.layer(), "cluster": {"name": "inline"}, "sampler": {"name": "uniform", "clients": 3}, **parts}
    return Config.bind("test", {}, content)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


CASES: dict[str, tuple[Any, Problem, dict[str, Any]]] = {
    "fedper": (fedray.FedPer(), PROBLEM, {}),
    "ditto": (fedray.Ditto(lam=0.5), PROBLEM, {}),
    "scaffold": (fedray.Scaffold(), PROBLEM, {}),
    "ifca": (fedray.IFCA(clusters=2), PROBLEM, {}),
    "local buffers": (fedray.FedAvg(), replace(PROBLEM, model_fn=seeded(normed)), {"buffers": "local"}),
    "kept buffers": (fedray.FedAvg(), replace(PROBLEM, model_fn=seeded(normed)), {"buffers": "keep"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_clients_are_evaluated_as_the_run_did(case: str, tmp_path: Path) -> None:
    """After each of its rounds, bit for bit: by what each had kept then, fits of the evaluation included."""
    algorithm, problem, options = CASES[case]
    config, folder = config_of(algorithm, problem, replace(ARGS, **options)), RunFolder(tmp_path / "run")
    records = list(config.experiment(folder).records())
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    for round, expected in enumerate(records, 1):
        found = evaluate_clients(config, folder, round)
        for section in VIEWS.values():
            assert getattr(found, section) == getattr(expected, section)
        assert found.evaluated == expected.evaluated
        assert found.test == {}
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


def test_a_run_that_evaluated_no_client_can_be_evaluated_by_them(tmp_path: Path) -> None:
    args = replace(ARGS, evaluate_clients_every=0, evaluate_finetune=None)
    config, folder = config_of(fedray.FedPer(), args=args), RunFolder(tmp_path / "run")
    list(config.experiment(folder).records())
    whole, other = config_of(fedray.FedPer()), RunFolder(tmp_path / "whole")
    expected = list(whole.experiment(other).records())[-1]
    assert evaluate_clients(config, folder, None).clients_personal == expected.clients_personal


@pytest.mark.parametrize(
    ("algorithm", "lacks"),
    [
        (fedray.FedPer(), "3.weight, 3.bias of the server's model are as they were at the start"),
        (fedray.IFCA(clusters=2), "the server's row is no model that a client would use"),
        (fedray.Ditto(), ""),
    ],
    ids=["fedper", "ifca", "ditto"],
)
def test_a_server_without_a_whole_model_is_not_tested_and_its_export_says_so(
    algorithm: Any, lacks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, folder = config_of(algorithm), RunFolder(tmp_path / "run")
    with caplog.at_level(logging.INFO):
        list(config.experiment(folder).records())
    assert ("model.safetensors, result.model: " in caplog.text) == bool(lacks)
    export_model(folder, tmp_path / "model.safetensors")
    assert lacks in lacking(folder)
    assert bool(lacking(folder)) == bool(lacks)
    if not lacks:
        assert evaluate_run(config, folder, None).numbers["examples"] == 20
        return
    with pytest.raises(ConfigError, match=r"no whole model to test, .*: fedray evaluate .*run --clients$"):
        evaluate_run(config, folder, None)


def test_what_cannot_be_evaluated_is_said(tmp_path: Path) -> None:
    config, folder = config_of(fedray.Ditto()), RunFolder(tmp_path / "run")
    list(config.experiment(folder).records())
    bare = config_of(fedray.Ditto(), class_problem((7, 3, 12, 9, 6, 5), test=20))
    with pytest.raises(ConfigError, match="no client has held-out rows to evaluate on, or a test set of its own"):
        evaluate_clients(bare, folder, None)
    other = config_of(fedray.Scaffold())
    with pytest.raises(ConfigError, match="the checkpoint has kept"):
        evaluate_clients(other, folder, None)
    silos = replace(
        config,
        data=type("Silos", (), {"silos": {"a": 1}})(),
        place=Config.bind("t", {}, {**ARGS.layer(), "data": PROBLEM.data, "model": config.model}).place,
    )
    with pytest.raises(ConfigError, match="--clients: the rows of silos lie at their nodes"):
        evaluate_clients(silos, folder, None)
    for path in folder.state.glob("*"):
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ConfigError, match="what clients kept up to round 3 is not whole"):
        evaluate_clients(config, folder, 3)


class Bodied(nn.Module):
    """A head on a frozen body that is drawn anew in each process, as far as a seed says so."""

    body_seed = 1

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 4), nn.Linear(4, 3)
        with torch.no_grad():
            self.body.weight.copy_(torch.randn(4, 6, generator=torch.Generator().manual_seed(self.body_seed)))
        self.body.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.body(x))
        return output


def test_another_frozen_body_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run's own is at hand for the test set; clients are trained on in the evaluation, and have to be refused."""
    problem = replace(PROBLEM, model_fn=seeded(Bodied))
    config, folder = config_of(fedray.FedAvg(), problem), RunFolder(tmp_path / "run")
    list(config.experiment(folder).records())
    caplog.clear()  # which has how much of the work is with frozen weights
    expected = evaluate_run(config, folder, None)
    assert "frozen" not in caplog.text
    monkeypatch.setattr(Bodied, "body_seed", 2)
    other = config_of(fedray.FedAvg(), problem)
    assert evaluate_run(other, folder, None) == expected
    assert (
        "what is frozen in it is not what it was when the run was started; it is evaluated with that of" in caplog.text
    )
    with pytest.raises(ConfigError, match="what is frozen in it is not what it was when the run was started"):
        evaluate_clients(other, folder, None)
    (folder.path / "frozen.safetensors").unlink()
    list(config_of(fedray.FedAvg(), problem).experiment(RunFolder(tmp_path / "two")).records())
    (tmp_path / "two" / "frozen.safetensors").rename(folder.path / "frozen.safetensors")
    monkeypatch.setattr(Bodied, "body_seed", 3)
    with pytest.raises(ConfigError, match="neither these frozen tensors nor the model's own are those of the run"):
        evaluate_run(config_of(fedray.FedAvg(), problem), folder, None)


def rows_of(clients: int) -> ClientRows:
    """Clients with 10 well and 4 ill patients each, of whom 8 and 3 are found."""
    support = [[{"class": "well", "count": 10}, {"class": "ill", "count": 4}]] * clients
    values = {"loss": 0.3, "accuracy": 11 / 14, "sensitivity": 0.75, "specificity": 0.8}
    columns = {name: np.full(clients, value) for name, value in values.items()}
    whole = {"sensitivity": 0.75, "specificity": 0.8}
    sizes = np.full(clients, 14)
    return ClientRows("global", np.arange(clients), sizes, columns, whole, cells={"support": support})


def test_shares_of_clients_have_intervals() -> None:
    ((view, table),) = intervals_told([rows_of(2)], str, None)
    assert (view, table.head) == ("clients_test", ["client", "accuracy", "sensitivity", "specificity"])
    assert [line[0] for line in table.lines] == ["0", "1", "all"]
    assert table.lines[0][2] == shown(wilson(3, 4))
    assert table.lines[2][1:] == [shown(wilson(22, 28)), shown(wilson(6, 8)), shown(wilson(16, 20))]
    ((_, table),) = intervals_told([rows_of(MOST_SHOWN + 1)], str, None)
    assert [line[0] for line in table.lines] == ["all"]
    (first, _) = each_json([rows_of(2)], str)
    low, high, of = (first["intervals"]["sensitivity"][key] for key in ("low", "high", "of"))
    assert (low, high, of) == wilson(3, 4)[1:4]
    chosen = [Sensitivity(positive="well", label="of_well")]
    assert intervals_told([replace(rows_of(2), cells={})], str, chosen) == []
    renamed = replace(rows_of(2), metrics={"of_well": np.full(2, 0.8)}, whole={})
    ((_, table),) = intervals_told([renamed], str, chosen)
    assert table.lines[1] == ["1", shown(wilson(8, 10))]
